package idp

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/harmony/id/account"
	"github.com/harmony/id/db"
	"github.com/harmony/id/secret"
)

// The algorithms that sign ID tokens (RFC 7518, RFC 8037). The first is the default.
const (
	algES256 = "ES256"
	algRS256 = "RS256"
	algEdDSA = "EdDSA"
)

var algs = []string{algES256, algRS256, algEdDSA}

// rsaBits follows ASVS 11.2.3.
const rsaBits = 3072

// The types (typ) of the JWTs that are signed here: each kind has its own (RFC 8725
// 3.11).
const (
	typeIDToken     = "JWT"
	typeAccessToken = "at+jwt"     // RFC 9068 2.1
	typeLogoutToken = "logout+jwt" // OIDC Back-Channel Logout 2.4
)

// A keySet is the signing keys in memory, parsed.
type keySet struct {
	signing []signingKey               // the youngest first
	public  map[string]jose.JSONWebKey // by kid
	jwks    []byte                     // the document
}

// A signingKey signs from its time on, until a younger one of its algorithm does.
type signingKey struct {
	alg     string
	active  time.Time
	signers map[string]jose.Signer // by typ
}

// signer is what signs JWTs of a type with an algorithm now, or nil.
func (k keySet) signer(alg, typ string, now time.Time) jose.Signer {
	for _, key := range k.signing {
		if key.alg == alg && !key.active.After(now) {
			return key.signers[typ]
		}
	}
	return nil
}

// hashOf is the hash of at_hash: the one that the signature uses (OIDC Core
// 3.1.3.6; SHA-512 for Ed25519).
func hashOf(alg string) hash.Hash {
	if alg == algEdDSA {
		return sha512.New()
	}
	return sha256.New()
}

// EnsureKeys makes the signing keys if there are none yet. Of replicas that start
// together one makes them and the others wait for it.
func EnsureKeys(ctx context.Context, d *db.DB, ring *secret.Ring) error {
	var one int64
	if err := d.QueryRow(ctx, `SELECT count(*) FROM signing_keys`).Scan(&one); err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	if one > 0 {
		return nil
	}
	var keys []*madeKey
	for _, alg := range algs {
		k, err := newKey(ring, alg)
		if err != nil {
			return err
		}
		keys = append(keys, k)
	}
	now := time.Now()
	return d.Tx(ctx, func(tx *db.Tx) error {
		n, err := tx.Exec(ctx, `INSERT INTO settings (name, value) VALUES ('signing_keys', 'made') ON CONFLICT (name) DO NOTHING`)
		if err != nil || n == 0 {
			return err // another replica's keys serve
		}
		for _, k := range keys {
			if err := k.insert(ctx, tx, now, now, account.Event{Kind: "signing_key_made", Actor: housekeeper}); err != nil {
				return err
			}
		}
		return nil
	})
}

func generate(alg string) (crypto.Signer, error) {
	switch alg {
	case algES256:
		return ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case algRS256:
		return rsa.GenerateKey(rand.Reader, rsaBits)
	case algEdDSA:
		_, key, err := ed25519.GenerateKey(rand.Reader)
		return key, err
	}
	return nil, fmt.Errorf("no algorithm %q", alg)
}

// Sealed are the columns that keep what the encryption keys seal. A key that was
// wiped is empty.
func Sealed() []secret.Column {
	return []secret.Column{{Table: "signing_keys", Column: "private_sealed", Key: "id", Purpose: boxSigningKey}}
}

const boxSigningKey = "signing key"

// CheckKeys refuses encryption keys that do not open the newest signing key: they
// are not those that the database was used with. Before the first start there is none,
// and it refuses no keys.
func CheckKeys(ctx context.Context, d *db.DB, ring *secret.Ring) error {
	var id string
	var sealed []byte
	err := d.QueryRow(ctx, `SELECT id, private_sealed FROM signing_keys WHERE retired_at IS NULL ORDER BY active_at DESC, id LIMIT 1`).Scan(&id, &sealed)
	if errors.Is(err, sql.ErrNoRows) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("reading the signing keys: %w", err)
	}
	_, err = openKey(ring.Box(boxSigningKey), id, sealed)
	return err
}

// openKey returns a signing key's PKCS #8.
func openKey(box *secret.Box, id string, sealed []byte) ([]byte, error) {
	der, err := box.Open(sealed, "signing_keys/"+id)
	if err != nil {
		return nil, fmt.Errorf("signing key %s: %w (is this the encryption key file that the database was used with?)", id, err)
	}
	return der, nil
}

// readKeys opens every signing key. One that does not open is an error: a
// provider never goes on with fewer keys than it published, and never makes new ones silently.
func readKeys(ctx context.Context, d *db.DB, box *secret.Box) (keySet, error) {
	set := keySet{public: map[string]jose.JSONWebKey{}}
	now := time.Now()
	rows, err := d.Query(ctx, `
		SELECT id, alg, public_jwk, private_sealed, active_at, retired_at FROM signing_keys ORDER BY active_at DESC, id`)
	if err != nil {
		return set, fmt.Errorf("reading the signing keys: %w", err)
	}
	defer rows.Close()
	var document struct {
		Keys []json.RawMessage `json:"keys"`
	}
	for rows.Next() {
		var (
			id, alg, public string
			sealed          []byte
			active          int64
			retired         sql.NullInt64
		)
		if err := rows.Scan(&id, &alg, &public, &sealed, &active, &retired); err != nil {
			return set, fmt.Errorf("reading the signing keys: %w", err)
		}
		var jwk jose.JSONWebKey
		if err := json.Unmarshal([]byte(public), &jwk); err != nil {
			return set, fmt.Errorf("signing key %s: %w", id, err)
		}
		set.public[id] = jwk
		if retired.Valid && !db.Time(retired.Int64).After(now) {
			continue // it only tells an id_token_hint of ours from a forged one
		}
		der, err := openKey(box, id, sealed)
		if err != nil {
			return set, err
		}
		private, err := x509.ParsePKCS8PrivateKey(der)
		if err != nil {
			return set, fmt.Errorf("signing key %s: %w", id, err)
		}
		key := signingKey{alg, db.Time(active), map[string]jose.Signer{}}
		for _, typ := range []string{typeIDToken, typeAccessToken, typeLogoutToken} {
			key.signers[typ], err = jose.NewSigner(
				jose.SigningKey{Algorithm: jose.SignatureAlgorithm(alg), Key: jose.JSONWebKey{Key: private, KeyID: id}},
				(&jose.SignerOptions{}).WithType(jose.ContentType(typ)))
			if err != nil {
				return set, fmt.Errorf("signing key %s: %w", id, err)
			}
		}
		set.signing = append(set.signing, key)
		document.Keys = append(document.Keys, json.RawMessage(public))
	}
	if err := rows.Err(); err != nil {
		return set, fmt.Errorf("reading the signing keys: %w", err)
	}
	for _, alg := range algs {
		if set.signer(alg, typeIDToken, now) == nil {
			return set, fmt.Errorf("there is no %s key to sign with", alg)
		}
	}
	if set.jwks, err = json.Marshal(document); err != nil {
		return set, fmt.Errorf("writing the JWKS: %w", err)
	}
	return set, nil
}

// leftHalf is the at_hash of an access token (OIDC Core 3.1.3.6).
func leftHalf(alg, token string) string {
	h := hashOf(alg)
	h.Write([]byte(token))
	sum := h.Sum(nil)
	return base64.RawURLEncoding.EncodeToString(sum[:len(sum)/2])
}
