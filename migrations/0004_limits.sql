-- Wrong codes after a right first factor have a count of their own, and what
-- happened is found by its age when it is to be deleted: what operators did stays
-- longer than the rest.

ALTER TABLE totp ADD COLUMN login_failures BIGINT NOT NULL DEFAULT 0;
ALTER TABLE totp ADD COLUMN login_told BIGINT NOT NULL DEFAULT 0;
CREATE INDEX events_own ON events (at) WHERE substr(actor, 1, 8) <> 'operator';
CREATE INDEX events_operators ON events (at) WHERE substr(actor, 1, 8) = 'operator';
