// Package roottest is for tests that need root. Nothing but tests may import it.
package roottest

import (
	"os"
	"testing"
	"time"
)

// Patience is how long a test waits for what must come. It is far more than a slow
// or busy machine takes, so that a test that fails by it has found a fault.
const Patience = time.Minute

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
