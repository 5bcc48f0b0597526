-- Claims that a workspace asked for one by one, and what people allowed
-- third-party workspaces to learn.

ALTER TABLE grants ADD COLUMN claims TEXT NOT NULL DEFAULT '';

CREATE TABLE consents (
	user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	client_id TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
	scope     TEXT NOT NULL,
	given_at  BIGINT NOT NULL,
	PRIMARY KEY (user_id, client_id)
);
CREATE INDEX consents_client ON consents (client_id);
