package reconcile

import (
	"testing"

	"stead/runtime/status"
)

// After a restart of the daemon the applied manifest and the declared one are two
// that mean the same: they are compared once.
func TestWhatMeansTheSameIsComparedOnce(t *testing.T) {
	files := map[string]string{"web.yaml": yaml("web", "env: {A: '1', B: '2'}"), "db.yaml": yaml("db", "resources: {pids: 9}")}
	applied := []*status.Status{running(t, "db"), running(t, "web", "env: {B: '2', A: '1'}")}
	story(t, files, applied, func(t *testing.T, s *shelf, rt *fakeRuntime, e *Engine) {
		wantActed(t, rt, "update db")
		declared := s.Read().Files
		for i, name := range []string{"db", "web"} {
			if rt.status(name).Applied != declared[i].Documents[0].Container {
				t.Errorf("%s: applied and declared are still two", name)
			}
		}
	})
}
