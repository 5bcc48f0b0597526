-- Wrong codes after a right first factor have a count of their own, and what
-- happened is found by its age when it is to be deleted.

ALTER TABLE totp ADD COLUMN login_failures BIGINT NOT NULL DEFAULT 0;
CREATE INDEX events_at ON events (at);
