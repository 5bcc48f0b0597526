// Package secret is all cryptography at rest: a ring of keys from a file, boxes
// that seal values for one purpose and one row, MACs, hashes of tokens, and the
// tokens themselves.
//
// What it seals is XChaCha20-Poly1305 under a key that HKDF derives for the
// purpose from a key of the ring; the key's id stands in front of every sealed
// value, so that keys can rotate, and the row's identity is bound in as
// associated data, so that a value moved to another row does not open.
package secret
