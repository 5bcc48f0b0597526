package device

import (
	_ "embed"
	"encoding/json"
	"strings"
	"sync"
)

//go:embed aaguids.json
var aaguids []byte

// models are the names of passkey providers and security keys by AAGUID (WebAuthn L3
// 6.5.2), in hexadecimal without hyphens. Where they come from, aaguids.NOTICE says.
var models = sync.OnceValue(func() map[string]string {
	var list map[string]string
	if err := json.Unmarshal(aaguids, &list); err != nil {
		panic(err)
	}
	m := make(map[string]string, len(list))
	for id, name := range list {
		m[strings.ReplaceAll(strings.ToLower(id), "-", "")] = name
	}
	return m
})

// Model is what the maker calls the models of this AAGUID, "" for an unknown one.
// Without attestation a key can say what it likes: it is for people to recognise it by.
func Model(aaguid string) string { return models()[aaguid] }
