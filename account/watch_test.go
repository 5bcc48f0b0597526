package account

import (
	"slices"
	"strings"
	"testing"
)

// The name of a lane is one of a few words, and has nothing of whose it is.
func TestLaneNames(t *testing.T) {
	s := newStore(t, "sqlite", Config{})
	who := "usr_abcdefghijklmnop"
	lanes := slices.Concat(
		s.passwordLanes("ada@example.com", "192.0.2.1/32", ""), s.passwordLanes("ada@example.com", "192.0.2.1/32", "browserid"), s.resetLane("ada@example.com"),
		codeLanes("code", who, ""), codeLanes("code", who, "browserid"), codeLanes("backup-code", who, ""), codeLanes("backup-code", who, "browserid"),
		[]lane{{key: "enroll/" + who}, {key: "google/network/192.0.2.1/32"}, {key: "reset/network/192.0.2.1/32"}, {key: "link/network/192.0.2.1/32"}},
	)
	seen := map[string]bool{}
	for _, l := range lanes {
		name := l.name()
		if !slices.Contains(Lanes(), name) || !strings.HasPrefix(l.key, name+"/") {
			t.Errorf("the lane %s is called %q", l.key, name)
		}
		seen[name] = true
	}
	for _, name := range Lanes() {
		if !seen[name] {
			t.Errorf("there is no lane %s", name)
		}
	}
}
