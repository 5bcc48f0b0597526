-- The first schema. Three column types, TEXT, BIGINT and BYTEA, mean the same to SQLite and PostgreSQL.
-- *_at is Unix microseconds set by Go, NULL means "not yet"; *_hash is one-way; *_sealed is secret.Box.

CREATE TABLE settings (
	name  TEXT NOT NULL PRIMARY KEY,
	value TEXT NOT NULL
);

-- A person. The method of sign-in is fixed when the account is made. claims is the JSON of every
-- standard claim of OIDC Core 5.1 that has no column.
CREATE TABLE users (
	id                  TEXT NOT NULL PRIMARY KEY,
	email               TEXT NOT NULL UNIQUE,
	email_verified      BIGINT NOT NULL CHECK (email_verified IN (0, 1)),
	name                TEXT NOT NULL,
	claims              TEXT NOT NULL,
	method              TEXT NOT NULL,
	password_hash       TEXT CHECK (password_hash IS NULL OR method = 'password'),
	password_changed_at BIGINT,
	created_at          BIGINT NOT NULL,
	updated_at          BIGINT NOT NULL,
	disabled_at         BIGINT
);

-- A browser that a person is signed in with. A session is ended, not deleted: house-keeping deletes
-- it, grants and all, a day later.
CREATE TABLE sessions (
	id         TEXT NOT NULL PRIMARY KEY,
	token_hash BYTEA NOT NULL UNIQUE,
	user_id    TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
	auth_time  BIGINT NOT NULL,
	amr        TEXT NOT NULL,
	acr        TEXT NOT NULL,
	address    TEXT NOT NULL,
	user_agent TEXT NOT NULL,
	created_at BIGINT NOT NULL,
	seen_at    BIGINT NOT NULL,
	expires_at BIGINT NOT NULL,
	ended_at   BIGINT,
	ended_by   TEXT
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_ended ON sessions (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX sessions_expires ON sessions (expires_at);

-- tat is the theoretical arrival time of the generic cell rate algorithm.
CREATE TABLE throttles (
	key TEXT NOT NULL PRIMARY KEY,
	tat BIGINT NOT NULL
);
CREATE INDEX throttles_tat ON throttles (tat);

-- What happened to an account or a client, written in the transaction of the act. The ids are no
-- foreign keys: an event outlives what it tells of.
CREATE TABLE events (
	id         TEXT NOT NULL PRIMARY KEY,
	at         BIGINT NOT NULL,
	kind       TEXT NOT NULL,
	user_id    TEXT,
	client_id  TEXT,
	session_id TEXT,
	actor      TEXT NOT NULL,
	address    TEXT NOT NULL,
	user_agent TEXT NOT NULL,
	detail     TEXT NOT NULL
);
CREATE INDEX events_user ON events (user_id, at);

-- A relying party. The lists are JSON arrays of strings.
CREATE TABLE clients (
	id                        TEXT NOT NULL PRIMARY KEY,
	name                      TEXT NOT NULL,
	secret_hash               BYTEA,
	auth_method               TEXT NOT NULL,
	redirect_uris             TEXT NOT NULL,
	post_logout_redirect_uris TEXT NOT NULL,
	grant_types               TEXT NOT NULL,
	scopes                    TEXT NOT NULL,
	id_token_alg              TEXT NOT NULL,
	require_pkce              BIGINT NOT NULL CHECK (require_pkce IN (0, 1)),
	created_at                BIGINT NOT NULL,
	disabled_at               BIGINT,
	CHECK (auth_method <> 'none' OR require_pkce = 1)
);

-- An authorization request that waits for a person, bound to one browser. params is the checked
-- request as JSON.
CREATE TABLE auth_requests (
	id           TEXT NOT NULL PRIMARY KEY,
	browser_hash BYTEA NOT NULL,
	client_id    TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
	params       TEXT NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL
);
CREATE INDEX auth_requests_expires ON auth_requests (expires_at);

-- What a session gave a client: born with its authorization code, dead with its session. request_id
-- is unique, so that one authorization request leads to one code.
CREATE TABLE grants (
	id                TEXT NOT NULL PRIMARY KEY,
	session_id        TEXT REFERENCES sessions (id) ON DELETE CASCADE,
	user_id           TEXT,
	client_id         TEXT NOT NULL REFERENCES clients (id) ON DELETE CASCADE,
	request_id        TEXT UNIQUE,
	scope             TEXT NOT NULL,
	nonce             TEXT NOT NULL,
	redirect_uri      TEXT NOT NULL,
	challenge         TEXT NOT NULL,
	auth_time         BIGINT NOT NULL,
	amr               TEXT NOT NULL,
	acr               TEXT NOT NULL,
	code_hash         BYTEA,
	created_at        BIGINT NOT NULL,
	redeemed_at       BIGINT,
	refresh_hash      BYTEA,
	prev_refresh_hash BYTEA,
	rotated_at        BIGINT,
	refreshed_at      BIGINT,
	ended_at          BIGINT
);
CREATE INDEX grants_session ON grants (session_id);
CREATE INDEX grants_client ON grants (client_id);
CREATE INDEX grants_unredeemed ON grants (created_at) WHERE redeemed_at IS NULL;
CREATE INDEX grants_ended ON grants (ended_at) WHERE ended_at IS NOT NULL;

-- Keys that sign ID tokens. public_jwk is what the JWKS shows, private_sealed is PKCS #8.
CREATE TABLE signing_keys (
	id             TEXT NOT NULL PRIMARY KEY,
	alg            TEXT NOT NULL,
	public_jwk     TEXT NOT NULL,
	private_sealed BYTEA NOT NULL,
	created_at     BIGINT NOT NULL,
	active_at      BIGINT NOT NULL,
	retired_at     BIGINT
);