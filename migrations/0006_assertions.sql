-- Assertions that clients proved themselves with (private_key_jwt): each is taken once, by any
-- replica. jti_hash is over the client and the jti.

CREATE TABLE assertions (
	jti_hash   BYTEA NOT NULL PRIMARY KEY,
	expires_at BIGINT NOT NULL
);
CREATE INDEX assertions_expires ON assertions (expires_at);
