-- Two-factor authentication, password resets, and what people are told of by email.

-- When a session was last proved: by anything, and by a second factor. credential is the
-- password_changed_at of its person (0: none): a session of another credential is dead, even one
-- that opens at the moment of a reset.
ALTER TABLE sessions ADD COLUMN proved_at BIGINT NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN second_at BIGINT;
ALTER TABLE sessions ADD COLUMN credential BIGINT NOT NULL DEFAULT 0;
UPDATE sessions SET credential = (SELECT COALESCE(password_changed_at, 0) FROM users WHERE users.id = sessions.user_id);

-- A person's authenticator app. last_step is the time step of the newest code that was accepted:
-- no code is accepted twice. failures counts the wrong codes since then, backup_failures the wrong
-- backup codes since the last right one. codes_salt is the salt of the backup codes that are in force.
CREATE TABLE totp (
	user_id         TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	secret_sealed   BYTEA NOT NULL,
	last_step       BIGINT NOT NULL,
	failures        BIGINT NOT NULL,
	backup_failures BIGINT NOT NULL,
	enabled_at      BIGINT NOT NULL,
	codes_salt      BYTEA NOT NULL,
	codes_total     BIGINT NOT NULL,
	codes_made_at   BIGINT NOT NULL
);

-- Backup codes that were not used yet.
CREATE TABLE backup_codes (
	user_id   TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	code_hash BYTEA NOT NULL,
	PRIMARY KEY (user_id, code_hash)
);

-- What a session is being shown and has not confirmed yet: an authenticator's secret with backup
-- codes (purpose 'totp'), or new backup codes alone ('codes'). sealed is JSON.
CREATE TABLE enrollments (
	user_id    TEXT NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
	session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
	purpose    TEXT NOT NULL,
	sealed     BYTEA NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL
);
CREATE INDEX enrollments_session ON enrollments (session_id);
CREATE INDEX enrollments_expires ON enrollments (expires_at);

-- A person whose first proof was right and whose second is still to come. It is not a session and
-- opens nothing. credential is the password_changed_at that was in force.
CREATE TABLE logins (
	token_hash  BYTEA NOT NULL PRIMARY KEY,
	user_id     TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	amr         TEXT NOT NULL,
	credential  BIGINT NOT NULL,
	new_browser BIGINT NOT NULL CHECK (new_browser IN (0, 1)),
	tries       BIGINT NOT NULL,
	created_at  BIGINT NOT NULL,
	expires_at  BIGINT NOT NULL
);
CREATE INDEX logins_user ON logins (user_id);
CREATE INDEX logins_expires ON logins (expires_at);

-- A link that sets a password, one of each kind for a person at most: 'email', or 'operator' or
-- 'invitation' for one that an operator made, which no stranger's request by email replaces.
CREATE TABLE resets (
	token_hash BYTEA NOT NULL PRIMARY KEY,
	user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	kind       TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	UNIQUE (user_id, kind)
);
CREATE INDEX resets_expires ON resets (expires_at);

-- The outbox of mails: due_at is when the person has to be told of an event by email, NULL if
-- there is nothing (more) to tell. sealed is the address of somebody who is yet to be looked up.
ALTER TABLE events ADD COLUMN due_at BIGINT;
ALTER TABLE events ADD COLUMN tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE events ADD COLUMN sealed BYTEA;
CREATE INDEX events_due ON events (due_at) WHERE due_at IS NOT NULL;

-- A workspace that only takes people who proved a second factor.
ALTER TABLE clients ADD COLUMN require_2fa BIGINT NOT NULL DEFAULT 0;
