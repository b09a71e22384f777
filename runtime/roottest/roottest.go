// Package roottest is for tests that need root. Nothing but tests may import it.
package roottest

import (
	"os"
	"testing"
)

// Need skips without root, and fails rather than skips when root was promised
// (STEAD_TEST_ROOT, set by make test as root).
func Need(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("STEAD_TEST_ROOT") != "" {
		t.Fatal("not root, but root was asked for")
	}
	t.Skip("needs root")
}
