-- Tokens that are bound to a key (DPoP, RFC 9449): dpop_jkt is the key's thumbprint (RFC 7638), '' for
-- a grant that is not bound. What clients proved with, assertions and proofs alike, is in assertions.

ALTER TABLE clients ADD COLUMN dpop BIGINT NOT NULL DEFAULT 0;
ALTER TABLE grants ADD COLUMN dpop_jkt TEXT NOT NULL DEFAULT '';
