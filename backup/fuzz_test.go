package backup

import (
	"bytes"
	"testing"

	"github.com/harmony/id/db/dbtest"
)

// A backup that was changed is found out, and nothing that is read as one panics.
func FuzzVerify(f *testing.F) {
	d := dbtest.New(f, "sqlite")
	var b bytes.Buffer
	if _, err := Create(f.Context(), d, &b, columns, nil); err != nil {
		f.Fatal(err)
	}
	whole := b.Bytes()
	f.Add(whole)
	f.Add(whole[:len(whole)/2])
	f.Add(bytes.Replace(whole, []byte(`"rows"`), []byte(`"cows"`), 1))
	f.Add([]byte("{}\n"))
	f.Add([]byte("age-encryption.org/v1\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := Verify(t.Context(), bytes.NewReader(text), columns, nil, nil)
		if err == nil && s.SHA256 == "" {
			t.Errorf("%q is whole", text)
		}
	})
}
