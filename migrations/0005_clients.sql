-- What a workspace can be registered for besides sign-in.

ALTER TABLE clients ADD COLUMN access_token TEXT NOT NULL DEFAULT 'opaque';
ALTER TABLE clients ADD COLUMN third_party BIGINT NOT NULL DEFAULT 0;
ALTER TABLE clients ADD COLUMN jwks TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN jwks_uri TEXT NOT NULL DEFAULT '';
ALTER TABLE clients ADD COLUMN backchannel_logout_uri TEXT NOT NULL DEFAULT '';

-- The secret before the present one, while both are taken.
ALTER TABLE clients ADD COLUMN old_secret_hash BYTEA;
ALTER TABLE clients ADD COLUMN old_secret_until BIGINT;
