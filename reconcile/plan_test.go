package reconcile

import (
	"fmt"
	goruntime "runtime"
	"strings"
	"testing"
)

// A plan is printed under the engine's lock: a manifest of thousands of variables
// must not cost the square of that.
func TestManyChangesArePrinted(t *testing.T) {
	a := Action{Verb: Restart, Name: "web", Cause: "needs a restart"}
	const many = 10_000
	for i := range many {
		a.Changes = append(a.Changes, Change{Path: fmt.Sprintf("spec.env.V%05d", i), After: "(hidden)"})
	}
	var before, after goruntime.MemStats
	goruntime.ReadMemStats(&before)
	line := a.String()
	goruntime.ReadMemStats(&after)
	if got := strings.Count(line, "→"); got != many || !strings.HasSuffix(line, "V09999 (absent) → (hidden)  (needs a restart)") {
		t.Errorf("%d changes: …%s", got, line[len(line)-60:])
	}
	if used, most := after.TotalAlloc-before.TotalAlloc, uint64(100*len(line)); used > most {
		t.Errorf("%d bytes were copied for a line of %d", used, len(line))
	}
}
