package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
)

// A soft authenticator: it knows the specification (WebAuthn L3 6.1, 6.5; RFC 9052) and
// nothing of ours, and can be told to do wrong.

// A softKey is one credential on one authenticator.
type softKey struct {
	id, handle []byte
	private    *ecdsa.PrivateKey
	count      uint32 // of the next use; 0: it does not count
	verifies   bool   // it checks who holds it
	synced     bool
	wrong      wrongs
}

// wrongs are what a key, or whoever sits between, does wrong.
type wrongs struct {
	origin, domain, kind string
	challenge            []byte
	absent               bool // nobody touched it
	flip                 bool // a bit of the signature
	handle               []byte
	alg                  int    // of the key in the attestation
	format               string // of the attestation
	noKey                bool
	backedUp             bool // without being eligible
	crossOrigin          bool
}

func newSoftKey() *softKey {
	k := &softKey{id: make([]byte, 24), private: must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))(nopTB{}), verifies: true}
	rand.Read(k.id)
	return k
}

// copied is a copy of a key, as a thief makes one.
func (k *softKey) copied() *softKey { c := *k; return &c }

// cborHead begins a CBOR item (RFC 8949 3).
func cborHead(major byte, n int) []byte {
	switch {
	case n < 24:
		return []byte{major<<5 | byte(n)}
	case n < 256:
		return []byte{major<<5 | 24, byte(n)}
	}
	return binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n))
}

func cborBytes(b []byte) []byte { return append(cborHead(2, len(b)), b...) }
func cborText(s string) []byte  { return append(cborHead(3, len(s)), s...) }
func cborInt(n int) []byte {
	if n < 0 {
		return cborHead(1, -1-n)
	}
	return cborHead(0, n)
}

// cose is the public key (RFC 9053 7.1.1).
func (k *softKey) cose() []byte {
	alg := -7
	if k.wrong.alg != 0 {
		alg = k.wrong.alg
	}
	point := must(k.private.PublicKey.Bytes())(nopTB{})
	return slices.Concat(cborHead(5, 5), cborInt(1), cborInt(2), cborInt(3), cborInt(alg), cborInt(-1), cborInt(1),
		cborInt(-2), cborBytes(point[1:33]), cborInt(-3), cborBytes(point[33:]))
}

// authData is what the authenticator signs (WebAuthn L3 6.1).
func (k *softKey) authData(domain string, attested []byte) []byte {
	if k.wrong.domain != "" {
		domain = k.wrong.domain
	}
	hash := sha256.Sum256([]byte(domain))
	var flags byte
	for bit, on := range map[byte]bool{0x01: !k.wrong.absent, 0x04: k.verifies, 0x08: k.synced, 0x10: k.synced || k.wrong.backedUp, 0x40: attested != nil} {
		if on {
			flags |= bit
		}
	}
	return slices.Concat(hash[:], []byte{flags}, binary.BigEndian.AppendUint32(nil, k.count), attested)
}

func (k *softKey) clientData(kind, challenge string) []byte {
	d := map[string]any{"type": kind, "challenge": challenge, "origin": issuer, "crossOrigin": k.wrong.crossOrigin}
	if k.wrong.kind != "" {
		d["type"] = k.wrong.kind
	}
	if k.wrong.origin != "" {
		d["origin"] = k.wrong.origin
	}
	if k.wrong.challenge != nil {
		d["challenge"] = b64url(k.wrong.challenge)
	}
	return must(json.Marshal(d))(nopTB{})
}

func b64url(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// An askedKey is what the provider asked a browser for.
type askedKey struct {
	PublicKey struct {
		Challenge          string
		RPID               string `json:"rpId"`
		Timeout            int
		UserVerification   string
		AllowCredentials   []struct{ ID string }
		RP                 struct{ ID string }
		User               struct{ ID, Name, DisplayName string }
		ExcludeCredentials []struct{ ID string }
		PubKeyCredParams   []struct{ Alg int }
		Attestation        string
	}
}

// register makes the credential that was asked for.
func (k *softKey) register(q askedKey) string {
	k.handle = must(base64.RawURLEncoding.DecodeString(q.PublicKey.User.ID))(nopTB{})
	client := k.clientData("webauthn.create", q.PublicKey.Challenge)
	cose := k.cose()
	if k.wrong.noKey {
		cose = nil
	}
	attested := slices.Concat(make([]byte, 16), binary.BigEndian.AppendUint16(nil, uint16(len(k.id))), k.id, cose)
	format := "none"
	if k.wrong.format != "" {
		format = k.wrong.format
	}
	object := slices.Concat(cborHead(5, 3), cborText("fmt"), cborText(format), cborText("attStmt"), cborHead(5, 0),
		cborText("authData"), cborBytes(k.authData(q.PublicKey.RP.ID, attested)))
	return string(must(json.Marshal(map[string]any{
		"type": "public-key", "id": b64url(k.id), "rawId": b64url(k.id), "authenticatorAttachment": "platform", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64url(client), "attestationObject": b64url(object), "transports": []string{"internal", "hybrid"}},
	}))(nopTB{}))
}

// sign makes the assertion that was asked for.
func (k *softKey) sign(q askedKey) string {
	client := k.clientData("webauthn.get", q.PublicKey.Challenge)
	data := k.authData(q.PublicKey.RPID, nil)
	hash := sha256.Sum256(client)
	sum := sha256.Sum256(slices.Concat(data, hash[:]))
	signature := must(ecdsa.SignASN1(rand.Reader, k.private, sum[:]))(nopTB{})
	if k.wrong.flip {
		signature[len(signature)-1] ^= 1
	}
	handle := k.handle
	if k.wrong.handle != nil {
		handle = k.wrong.handle
	}
	if k.count > 0 {
		k.count++
	}
	return string(must(json.Marshal(map[string]any{
		"type": "public-key", "id": b64url(k.id), "rawId": b64url(k.id), "authenticatorAttachment": "platform", "clientExtensionResults": map[string]any{},
		"response": map[string]any{"clientDataJSON": b64url(client), "authenticatorData": b64url(data), "signature": b64url(signature), "userHandle": b64url(handle)},
	}))(nopTB{}))
}

const (
	pathPasskey       = "/login/passkey"
	pathAskKey        = "/login/passkey/ask"
	pathAddKey        = "/preferences/security/passkeys/add"
	pathAskNewKey     = "/preferences/security/passkeys/ask"
	pathRenamePasskey = "/preferences/security/passkeys/rename"
	pathRemovePasskey = "/preferences/security/passkeys/remove"
)

// askKey is what a script of the page does before it asks the browser.
func (b *browser) askKey(path, use string) (q askedKey) {
	b.w.t.Helper()
	p := b.once(http.MethodPost, path, url.Values{"use": {use}}, nil)
	if p.status != http.StatusOK || p.header.Get("Content-Type") != "application/json" {
		b.w.t.Fatalf("asked %s for %q: %d\n%s", path, use, p.status, p.body)
	}
	if err := json.Unmarshal([]byte(p.body), &q); err != nil {
		b.w.t.Fatal(err)
	}
	return q
}

// tryAdd registers a key of who is signed in, and says what came of it.
func (b *browser) tryAdd(k *softKey, name string) *page {
	b.w.t.Helper()
	return b.post(pathAddKey, url.Values{"name": {name}, "credential": {k.register(b.askKey(pathAskNewKey, ""))}})
}

func (b *browser) add(k *softKey, name string) {
	b.w.t.Helper()
	b.tryAdd(k, name).want(http.StatusOK, "/preferences/security")
}

// withKey signs in with a passkey and nothing else.
func (b *browser) withKey(k *softKey) *page {
	b.w.t.Helper()
	return b.post(pathPasskey, url.Values{"credential": {k.sign(b.askKey(pathAskKey, "sign_in"))}})
}

// secondKey uses a passkey on the page that asks for the second factor.
func (b *browser) secondKey(k *softKey) *page {
	b.w.t.Helper()
	return b.post("/login/verify", url.Values{"credential": {k.sign(b.askKey(pathAskKey, "second"))}})
}

// confirmKey uses a passkey to confirm who is signed in.
func (b *browser) confirmKey(k *softKey, purpose, to string) *page {
	b.w.t.Helper()
	return b.post("/login/confirm", url.Values{"with": {"passkey"}, "for": {purpose}, "to": {to}, "credential": {k.sign(b.askKey(pathAskKey, "confirm"))}})
}

// withPasskey is Ada with a passkey, signed in.
func (w *world) withPasskey(name string) (*browser, *softKey) {
	w.t.Helper()
	b, k := w.newBrowser(), newSoftKey()
	b.signIn(adaEmail, adaPassword)
	b.add(k, name)
	return b, k
}
