package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/reconcile/plan"
	"stead/runtime"
	"stead/runtime/backup"
	"stead/runtime/roottest"
	"stead/runtime/status"
	"stead/spec"
)

// hostUnderTest is the engine's side of a host: the one in memory that the other tests use,
// or a real one.
type hostUnderTest struct {
	Observer
	Containers
	Holds
	Removed
	Reloader
	Images
	Restorer
}

func fakeHost() hostUnderTest {
	f := newFake()
	return hostUnderTest{f, f, f.holds, f.removed, f, f.images, f}
}

// realHost is a runtime with directories and a cgroup parent of its own.
func realHost(t *testing.T) hostUnderTest {
	roottest.Need(t)
	dir := roottest.TempDir(t, "/var/tmp")
	r, err := runtime.Open(t.Context(), runtime.Options{
		StateDir: dir + "/state", RunDir: roottest.TempDir(t, "/dev/shm"), CgroupParent: filepath.Base(dir), Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), roottest.Patience)
		defer cancel()
		var failed []error
		for _, st := range r.List() {
			failed = append(failed, r.Remove(ctx, st.Name))
		}
		failed = append(failed, r.QuitKeeper(ctx))
		r.Close()
		if err := errors.Join(failed...); err != nil {
			t.Errorf("take down: %v", err)
		}
	})
	return hostUnderTest{r, r, r.Holds, r.Removed, r, r.Images, r}
}

// TestHostsConform has the host in memory and a real one do the same, and wants them to say
// the same: what the tests of the engine show on the one, holds on the other.
func TestHostsConform(t *testing.T) {
	hosts := map[string]func(*testing.T) hostUnderTest{
		"in memory": func(*testing.T) hostUnderTest { return fakeHost() },
		"real":      realHost,
	}
	here, there := status.Origin{File: "/m/web.yaml"}, status.Origin{File: "/m/other.yaml", Document: 1}
	web := parsed(t, yaml("web", "stop: {signal: KILL}"))
	other := parsed(t, yaml("web", "stop: {signal: KILL}", "env: {A: '1'}"))
	suspended := parsed(t, yaml("web", "stop: {signal: KILL}", "suspend: true"))
	limited := parsed(t, yaml("web", "stop: {signal: KILL}", "resources: {pids: 77}"))
	type call = func(h hostUnderTest, ctx context.Context) error
	create := func(h hostUnderTest, ctx context.Context) error { _, err := h.Create(ctx, web, here); return err }
	start := func(o status.StartOptions) call {
		return func(h hostUnderTest, ctx context.Context) error { return h.Start(ctx, "web", o) }
	}
	stop := func(o status.StopOptions) call {
		return func(h hostUnderTest, ctx context.Context) error { return h.Stop(ctx, "web", o) }
	}
	restart := func(byAdmin bool) call {
		return func(h hostUnderTest, ctx context.Context) error { return h.Restart(ctx, other, there, byAdmin) }
	}
	renamed := parsed(t, yaml("web-0", "stop: {signal: KILL}", "env: {A: '1'}"))
	renamed.Replica = &spec.Replica{Of: "web"}
	rename := func(h hostUnderTest, ctx context.Context) error { return h.Rename(ctx, "web", renamed, there) }
	reloadable := parsed(t, yaml("web", "stop: {signal: KILL}", "reload: {exec: ['true']}"))
	reload := func(h hostUnderTest, ctx context.Context) error { return h.Reload(ctx, "web") }
	remove := func(h hostUnderTest, ctx context.Context) error { return h.Remove(ctx, "web") }
	for _, row := range []struct {
		summary string
		calls   []call
		want    string
	}{
		{"created: it runs", []call{create}, "running /m/web.yaml"},
		{"created twice: once", []call{create, create}, "running /m/web.yaml"},
		{"created suspended: it does not run", []call{func(h hostUnderTest, ctx context.Context) error { _, err := h.Create(ctx, suspended, here); return err }}, "created suspended /m/web.yaml"},
		{"stopped by a plan", []call{create, stop(status.StopOptions{})}, "exited Stopped /m/web.yaml"},
		{"stopped twice", []call{create, stop(status.StopOptions{}), stop(status.StopOptions{})}, "exited Stopped /m/web.yaml"},
		{"stopped by an admin: noted", []call{create, stop(status.StopOptions{ByAdmin: true})}, "exited Stopped by admin /m/web.yaml"},
		{"stopped with a manifest: applied", []call{create, stop(status.StopOptions{Spec: suspended, From: there})}, "exited Stopped suspended /m/other.yaml#2"},
		{"started again by an admin", []call{create, stop(status.StopOptions{ByAdmin: true}), start(status.StartOptions{ByAdmin: true})}, "running /m/web.yaml"},
		{"started while it runs", []call{create, start(status.StartOptions{})}, "running /m/web.yaml"},
		{"started by the policy: counted", []call{create, stop(status.StopOptions{}), start(status.StartOptions{ByPolicy: true})}, "running restarts 1 /m/web.yaml"},
		{"started with a manifest: applied", []call{create, stop(status.StopOptions{}), start(status.StartOptions{Spec: other, From: there})}, "running A=1 /m/other.yaml#2"},
		{"restarted: applied", []call{create, restart(false)}, "running A=1 /m/other.yaml#2"},
		{"restarted after an admin's stop: applied, not started", []call{create, stop(status.StopOptions{ByAdmin: true}), restart(false)}, "exited Stopped by admin A=1 /m/other.yaml#2"},
		{"restarted by an admin: started", []call{create, stop(status.StopOptions{ByAdmin: true}), restart(true)}, "running A=1 /m/other.yaml#2"},
		{"updated in place", []call{create, func(h hostUnderTest, ctx context.Context) error { return h.Update(ctx, limited, here) }}, "running pids 77 /m/web.yaml"},
		{"adopted: only its place is new", []call{create, func(h hostUnderTest, ctx context.Context) error { return h.Adopt(ctx, "web", there) }}, "running /m/other.yaml#2"},
		{"renamed: applied, and started", []call{create, rename}, "not there; web-0 running A=1 /m/other.yaml#2"},
		{"renamed twice", []call{create, rename, rename}, "not there; web-0 running A=1 /m/other.yaml#2"},
		{"renamed after an admin's stop: not started", []call{create, stop(status.StopOptions{ByAdmin: true}), rename}, "not there; web-0 created by admin A=1 /m/other.yaml#2"},
		{"renamed and created: both are there", []call{create, rename, create}, "running /m/web.yaml; web-0 running A=1 /m/other.yaml#2"},
		{"removed", []call{create, remove}, "not there"},
		{"removed twice", []call{create, remove, remove}, "not there"},
		{"removed and created: a new one", []call{create, stop(status.StopOptions{ByAdmin: true}), remove, create}, "running /m/web.yaml"},
		{"reloaded: it runs on", []call{func(h hostUnderTest, ctx context.Context) error {
			_, err := h.Create(ctx, reloadable, here)
			return err
		}, reload}, "running /m/web.yaml"},
		{"reloaded while it does not run", []call{create, stop(status.StopOptions{}), func(h hostUnderTest, ctx context.Context) error {
			if err := reload(h, ctx); err == nil {
				return errors.New("no error")
			}
			return nil
		}}, "exited Stopped /m/web.yaml"},
		{"restored while it runs: refused", []call{create, func(h hostUnderTest, ctx context.Context) error {
			if err := restore(t, h, ctx); err == nil || !strings.Contains(err.Error(), "it runs") {
				return fmt.Errorf("error %v, want that it runs", err)
			}
			return nil
		}}, "running /m/web.yaml"},
		{"restored while it does not run", []call{create, stop(status.StopOptions{ByAdmin: true}), func(h hostUnderTest, ctx context.Context) error {
			return restore(t, h, ctx)
		}}, "exited Stopped by admin /m/web.yaml"},
		{"restored before it is there", []call{func(h hostUnderTest, ctx context.Context) error { return restore(t, h, ctx) }}, "not there"},
		{"held", []call{func(h hostUnderTest, _ context.Context) error { return h.Hold([]string{"web"}, "why") }}, "not there, on hold: why"},
		{"held and released", []call{
			func(h hostUnderTest, _ context.Context) error { return h.Hold(nil, "why") },
			func(h hostUnderTest, _ context.Context) error { return h.Release(nil) },
		}, "not there"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			for kind, host := range hosts {
				t.Run(kind, func(t *testing.T) {
					h := host(t)
					for i, call := range row.calls {
						if err := call(h, t.Context()); err != nil {
							t.Fatalf("call %d: %v", i+1, err)
						}
					}
					got := h.says("web")
					if other := h.says("web-0"); other != "not there" {
						got += "; " + other
					}
					if got != row.want {
						t.Errorf("got %q, want %q", got, row.want)
					}
				})
			}
		})
	}
}

// restore restores web from a directory as a job leaves it.
func restore(t *testing.T, h hostUnderTest, ctx context.Context) error {
	state := t.TempDir()
	if r, ok := h.Containers.(*runtime.Runtime); ok {
		state = r.StateDir
	}
	s, err := backup.NewStaging(state)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Trees()+"/root", 0o755); err != nil {
		return err
	}
	if err := s.SetStaged(&backup.Staged{Index: backup.Index{Name: "web", Root: "host", Trees: []backup.Tree{{Name: backup.RootTree}}}, Applied: "{}"}); err != nil {
		return err
	}
	_, err = h.Restore(ctx, "web", s.Dir)
	return errors.Join(err, s.Discard(ctx))
}

// says prints what is known about a container, without what two hosts can't have in common.
func (h hostUnderTest) says(name string) string {
	text := "not there"
	if st := plan.Find(h.List(), name); st != nil {
		if text = string(st.State); name != "web" {
			text = name + " " + text
		}
		if st.State == status.Running == (st.Pid == 0 || st.StartedAt.IsZero()) {
			text += " inconsistent"
		}
		if st.State == status.Exited {
			text += " " + st.Exit.Reason
		}
		if st.StoppedAt != nil && time.Since(*st.StoppedAt) < time.Hour {
			text += " by admin"
		}
		if st.Restarts > 0 {
			text += fmt.Sprintf(" restarts %d", st.Restarts)
		}
		if s := st.Applied.Spec; s.Suspend {
			text += " suspended"
		} else if s.Env["A"] != "" {
			text += " A=" + string(s.Env["A"])
		} else if s.Resources.Pids != nil {
			text += fmt.Sprintf(" pids %d", *s.Resources.Pids)
		}
		text += " " + plan.ManifestName(st.From)
	}
	if hold := h.Holds.Holds().Of(name); hold != nil {
		text += ", on hold: " + hold.Reason
	}
	return text
}

// TestImageHostsConform does the same for images.
func TestImageHostsConform(t *testing.T) {
	hosts := map[string]func(*testing.T) hostUnderTest{
		"in memory": func(*testing.T) hostUnderTest { return fakeHost() },
		"real":      realHost,
	}
	dirs := map[string]string{}
	for _, name := range []string{"a", "b"} {
		dirs[name] = t.TempDir()
		if err := os.WriteFile(dirs[name]+"/"+name, nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	from := func(name, dir string) *spec.Image {
		m := &spec.Image{Metadata: spec.ImageMetadata{Name: name}}
		m.Spec.Source.Directory = dirs[dir]
		return m
	}
	for _, row := range []struct {
		summary string
		imports []*spec.Image
		want    string // each name with the directory that it came from; and how many images there are
	}{
		{"none", nil, " 0"},
		{"imported", []*spec.Image{from("debian", "a")}, "debian=a 1"},
		{"imported twice", []*spec.Image{from("debian", "a"), from("debian", "a")}, "debian=a 1"},
		{"two names of one image", []*spec.Image{from("debian", "a"), from("other", "a")}, "debian=a other=a 1"},
		{"another source: the name moves, the earlier image stays", []*spec.Image{from("debian", "a"), from("debian", "b")}, "debian=b 2"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			for kind, host := range hosts {
				t.Run(kind, func(t *testing.T) {
					h := host(t)
					for _, m := range row.imports {
						if err := h.Import(t.Context(), m, func(int64, int64) {}); err != nil {
							t.Fatal(err)
						}
					}
					now, err := h.Stored()
					if err != nil {
						t.Fatal(err)
					}
					var words []string
					for _, name := range slices.Sorted(maps.Keys(now.ByName)) {
						m := now.ByName[name]
						for dir, path := range dirs {
							if m.Source == path && now.Digests[m.Digest] && m.Name == name {
								words = append(words, name+"="+dir)
							}
						}
					}
					if got := fmt.Sprint(strings.Join(words, " "), " ", len(now.Digests)); got != row.want {
						t.Errorf("got %q, want %q", got, row.want)
					}
				})
			}
		})
	}
}
