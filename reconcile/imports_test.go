package reconcile

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// What decides and what shows must not know where manifests and containers come from: with
// no kernel, no file system and no watch among their imports, direct or not, they can't.
func TestRoomsThatKnowNoKernel(t *testing.T) {
	for room, ours := range map[string][]string{
		"stead/spec":            {},
		"stead/runtime/status":  {"stead/spec"},
		"stead/reconcile/plan":  {"stead/runtime/status", "stead/spec"},
		"stead/reconcile/view":  {"stead/reconcile/plan", "stead/runtime/status", "stead/spec"},
		"stead/runtime/record":  nil, // whatever is ours and no manifest
		"stead/runtime/keeper":  nil,
		"stead/runtime/launch":  nil,
		"stead/runtime/cgroup":  nil,
		"stead/runtime/logs":    nil,
		"stead/runtime/seccomp": nil,
	} {
		out, err := exec.Command("go", "list", "-deps", room).CombinedOutput()
		if err != nil {
			t.Fatalf("go list: %v\n%s", err, out)
		}
		for _, dep := range strings.Fields(string(out)) {
			switch {
			case dep == room:
			case ours == nil: // below the line: it knows no manifest and nothing of the reconciler
				if dep == "stead/spec" || strings.HasPrefix(dep, "stead/reconcile") {
					t.Errorf("%s imports %s", room, dep)
				}
			case strings.HasPrefix(dep, "stead/") && !slices.Contains(ours, dep):
				t.Errorf("%s imports %s, want at most %v", room, dep, ours)
			case dep == "golang.org/x/sys/unix" || strings.HasPrefix(dep, "github.com/fsnotify/") || strings.HasPrefix(dep, "github.com/containerd/"):
				t.Errorf("%s imports %s", room, dep)
			}
		}
	}
}
