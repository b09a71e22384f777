package source

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/fsnotify/fsnotify"

	"stead/runtime/roottest"
)

// limits of inotify are the user namespace's own below /proc/sys/user (man 7
// namespaces), so a test can do without harming anybody.
const insideNamespace = "STEAD_TEST_INSIDE_NAMESPACE"

// inNamespace runs the calling test once more, in a user namespace of its own.
func inNamespace(t *testing.T) (inside bool) {
	t.Helper()
	if os.Getenv(insideNamespace) != "" {
		return true
	}
	roottest.Need(t)
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), insideNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: 0, Size: 1}},
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("inside: %v\n%s", err, out)
	}
	return false
}

func limitInotify(t *testing.T, what string, n int) {
	t.Helper()
	file := "/proc/sys/user/max_inotify_" + what
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, fmt.Appendln(nil, n), 0); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.WriteFile(file, before, 0) })
}

// Where not every directory can be watched, or none, changes are found by looking,
// which the reading asks for; and when there is room again, they are watched.
func TestInotifyIsExhausted(t *testing.T) {
	if !inNamespace(t) {
		return
	}
	for _, story := range []struct {
		what         string // the limit
		little, many int
		advice       string
	}{
		{"watches", 2, 100, "fs.inotify.max_user_watches"},
		{"instances", 0, 10, "fs.inotify.max_user_instances"},
	} {
		t.Run(story.what, func(t *testing.T) {
			root := t.TempDir()
			tree(t, root, map[string]string{"m/a.yaml": "a", "m/x/b.yaml": "b", "m/y/c.yaml": "c", "m/z.container.d/1.yaml": "{}"})
			limitInotify(t, story.what, story.little)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
			s.Watch(ctx)
			r := quiet(s)
			if r.Unwatched == nil || !strings.Contains(r.Unwatched.Error(), story.advice) || r.Retry != Poll {
				t.Errorf("unwatched %v, look again after %v; want %s and %v", r.Unwatched, r.Retry, story.advice, Poll)
			}
			tree(t, root, map[string]string{"m/y/d.yaml": "d"})
			if got, want := tell(root, s.Read()), "m/a.yaml: a\nm/x/b.yaml: b\nm/y/c.yaml: c\nm/y/d.yaml: d\n"; got != want {
				t.Errorf("looked:\n%swant:\n%s", got, want)
			}
			limitInotify(t, story.what, story.many)
			s.Renew()
			if r = quiet(s); r.Unwatched != nil || r.Retry != 0 {
				t.Fatalf("there is room again: unwatched %v, look again after %v", r.Unwatched, r.Retry)
			}
			tree(t, root, map[string]string{"m/y/e.yaml": "e"})
			awaken(t, s, "a new file where it could not be watched before")
		})
	}
}

// When events were lost, a watch that went with its directory may be among what
// nobody heard of: all are asked for again, and everything is looked at.
func TestLostEvents(t *testing.T) {
	root := t.TempDir()
	tree(t, root, map[string]string{"m/sub/a.yaml": "a"})
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s := &Source{Dirs: []string{root + "/m"}, Parser: lines{}}
	s.Watch(ctx)
	quiet(s)
	// As if the removal of a watch had been among the lost events.
	if err := s.watch.notify.Remove(root + "/m/sub"); err != nil {
		t.Fatal(err)
	}
	s.watch.notify.Errors <- fsnotify.ErrEventOverflow
	awaken(t, s, "events were lost")
	quiet(s)
	tree(t, root, map[string]string{"m/sub/b.yaml": "b"})
	awaken(t, s, "a change in the directory whose watch was lost")
	readTo(t, s, root, "m/sub/a.yaml: a\nm/sub/b.yaml: b\n")
}
