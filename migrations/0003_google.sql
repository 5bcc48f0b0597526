-- People who sign in with Google, or with another OpenID provider in its place. Who somebody is
-- there is the issuer and the subject, never the address.
ALTER TABLE users ADD COLUMN google_issuer TEXT;
ALTER TABLE users ADD COLUMN google_subject TEXT;
CREATE UNIQUE INDEX users_google ON users (google_issuer, google_subject);

-- A round trip to Google that is under way, bound to one browser. With session_id it confirms who
-- is signed in there, without it somebody signs in. sealed is JSON: nonce and PKCE verifier.
CREATE TABLE google_flows (
	state_hash   BYTEA NOT NULL PRIMARY KEY,
	browser_hash BYTEA NOT NULL,
	session_id   TEXT REFERENCES sessions (id) ON DELETE CASCADE,
	go_on        TEXT NOT NULL,
	sealed       BYTEA NOT NULL,
	created_at   BIGINT NOT NULL,
	expires_at   BIGINT NOT NULL
);
CREATE INDEX google_flows_expires ON google_flows (expires_at);
CREATE INDEX google_flows_session ON google_flows (session_id);
