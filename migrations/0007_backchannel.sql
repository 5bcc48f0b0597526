-- Workspaces are told when a session ends (OIDC Back-Channel Logout). What is still to be told is a
-- redeemed grant of a session that is over whose told_at is NULL: the act that ended the session
-- writes nothing here. tell_at is when to try (again), or how long whoever tries has the grant for
-- itself; NULL before the first attempt and after the last. tell_result is 'confirmed', or why the
-- last attempt failed.
ALTER TABLE grants ADD COLUMN tell_at BIGINT;
ALTER TABLE grants ADD COLUMN tell_tries BIGINT NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN tell_result TEXT NOT NULL DEFAULT '';
ALTER TABLE grants ADD COLUMN told_at BIGINT;
CREATE INDEX grants_tell ON grants (tell_at) WHERE tell_at IS NOT NULL;
