-- Authorization requests that clients pushed (RFC 9126), until the browser comes with their uri,
-- and clients that have to. params is the form as it was pushed.

ALTER TABLE clients ADD COLUMN require_par BIGINT NOT NULL DEFAULT 0;

CREATE TABLE pushed_requests (
	uri_hash   BYTEA NOT NULL PRIMARY KEY,
	client_id  TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
	params     TEXT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX pushed_requests_expires ON pushed_requests (expires_at);
