-- Passkeys and security keys (WebAuthn).

-- What a person's keys know them by: random, made with the first one, and no other name of theirs.
ALTER TABLE users ADD COLUMN passkey_handle BYTEA;
CREATE UNIQUE INDEX users_passkey_handle ON users (passkey_handle);

-- One key. credential_id and public_key are as the key gave them. sign_count is the highest that it
-- ever showed. verifies is 1 once it checked who holds it (PIN, fingerprint); synced is 1 if it may
-- be on several devices (a property of the key), backed_up 1 if it was when it was last used.
CREATE TABLE passkeys (
	id            TEXT NOT NULL PRIMARY KEY,
	user_id       TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	credential_id BYTEA NOT NULL UNIQUE,
	public_key    BYTEA NOT NULL,
	name          TEXT NOT NULL,
	aaguid        TEXT NOT NULL,
	transports    TEXT NOT NULL,
	sign_count    BIGINT NOT NULL,
	verifies      BIGINT NOT NULL CHECK (verifies IN (0, 1)),
	synced        BIGINT NOT NULL CHECK (synced IN (0, 1)),
	backed_up     BIGINT NOT NULL CHECK (backed_up IN (0, 1)),
	created_at    BIGINT NOT NULL,
	used_at       BIGINT
);
CREATE INDEX passkeys_user ON passkeys (user_id);

-- What a browser was asked for and has not answered yet, each taken once. With session_id it is about
-- who is signed in there. sealed is JSON: the challenge, and what the answer must be.
CREATE TABLE ceremonies (
	token_hash BYTEA NOT NULL PRIMARY KEY,
	purpose    TEXT NOT NULL,
	session_id TEXT REFERENCES sessions (id) ON DELETE CASCADE,
	sealed     BYTEA NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX ceremonies_session ON ceremonies (session_id);
CREATE INDEX ceremonies_expires ON ceremonies (expires_at);

-- From now on a row of totp says that two-factor authentication is on. Its secret_sealed is empty for
-- a person who has no authenticator app, but security keys and backup codes.
