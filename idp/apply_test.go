package idp

import (
	"reflect"
	"slices"
	"testing"
	"time"
)

// notFields are what of a Client is not for Update to change.
var notFields = []string{"ID", "CreatedAt", "DisabledAt", "OldSecretUntil"}

// No field of a client is forgotten: one that differs is a difference, and is what
// Update writes.
func TestEveryFieldCanChange(t *testing.T) {
	columns := map[string]bool{}
	for _, f := range fields {
		if columns[f.column] {
			t.Errorf("column %s comes twice", f.column)
		}
		columns[f.column] = true
	}
	n := 0
	for f := range reflect.TypeFor[Client]().Fields() {
		if !f.IsExported() || slices.Contains(notFields, f.Name) {
			continue
		}
		n++
		var c Client
		switch v := reflect.ValueOf(&c).Elem().FieldByIndex(f.Index); v.Interface().(type) {
		case string:
			v.SetString("other")
		case bool:
			v.SetBool(true)
		case []string:
			v.Set(reflect.ValueOf([]string{"other"}))
		case time.Time:
			t.Errorf("%s is a time", f.Name)
		default:
			t.Errorf("%s is a %s, which a field cannot show", f.Name, f.Type)
		}
		if d := (&Client{}).Differences(&c); len(d) != 1 || d[0].Before == d[0].After {
			t.Errorf("a client with another %s differs in %v: give it a line in fields", f.Name, d)
		}
	}
	if n != len(fields) {
		t.Errorf("a Client has %d fields that can change, and there are %d", n, len(fields))
	}
	same := Client{JWKS: `{"keys":[], "a":1}`, Scopes: []string{}}
	if d := same.Differences(&Client{JWKS: `{"a":1,"keys":[]}`}); d != nil {
		t.Errorf("what means the same differs: %v", d)
	}
}
