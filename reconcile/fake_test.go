package reconcile

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// fakeRuntime is a host in memory.
type fakeRuntime struct {
	mu    sync.Mutex
	by    map[string]*status.Status
	wake  chan struct{}
	calls []string
	pids  int

	fail  map[string]error         // by "verb name"
	root  map[string]string        // by name: what is wrong with its root, so that starts fail
	block map[string]chan struct{} // by "verb name": the call waits until it is closed
	holds status.Holds
}

func newFake(list ...*status.Status) *fakeRuntime {
	f := &fakeRuntime{by: map[string]*status.Status{}, wake: make(chan struct{}, 1), fail: map[string]error{}, root: map[string]string{}, block: map[string]chan struct{}{}}
	for _, st := range list {
		own := *st
		f.by[st.Name] = &own
	}
	return f
}

// call notes a call, waits as told and says whether it fails.
func (f *fakeRuntime) call(ctx context.Context, line string) error {
	f.mu.Lock()
	f.calls = append(f.calls, line)
	gate, err := f.block[line], f.fail[line]
	f.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return err
}

func (f *fakeRuntime) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.calls)
}

func (f *fakeRuntime) set(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeRuntime) status(name string) *status.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st := f.by[name]; st != nil {
		c := *st
		return &c
	}
	return nil
}

func (f *fakeRuntime) List() []*status.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := make([]*status.Status, 0, len(f.by))
	for _, name := range slices.Sorted(maps.Keys(f.by)) {
		st := *f.by[name]
		list = append(list, &st)
	}
	return list
}

func (f *fakeRuntime) Wake() <-chan struct{}                   { return f.wake }
func (f *fakeRuntime) Check(ctx context.Context, _ bool) error { return f.call(ctx, "check") }

// run starts the command of a container; the lock is held.
func (f *fakeRuntime) run(st *status.Status) error {
	if wrong := f.root[st.Name]; wrong != "" {
		st.State, st.Pid, st.FinishedAt = status.Exited, 0, time.Now()
		st.Exit = &status.Exit{Code: 125, Reason: status.ReasonRootfsMissing, Message: wrong}
		st.Failures++
		return errors.New(wrong)
	}
	f.pids++
	st.State, st.Pid, st.StartedAt, st.FinishedAt, st.Exit = status.Running, f.pids, time.Now(), time.Time{}, nil
	return nil
}

func (f *fakeRuntime) halt(st *status.Status) {
	if st.State == status.Running {
		st.State, st.Pid, st.FinishedAt = status.Exited, 0, time.Now()
		st.Exit = &status.Exit{Code: 143, Signal: "TERM", Reason: status.ReasonStopped}
	}
}

// exit ends the command of a container by itself.
func (f *fakeRuntime) exit(name string, code int) {
	f.mu.Lock()
	st := f.by[name]
	st.State, st.Pid, st.FinishedAt = status.Exited, 0, time.Now()
	st.Exit = &status.Exit{Code: code, Reason: status.ReasonError}
	if code == 0 {
		st.Exit.Reason = status.ReasonCompleted
	}
	st.Failures++
	if st.FinishedAt.Sub(st.StartedAt) >= time.Duration(st.Applied.Spec.Restart.Backoff.Max) {
		st.Failures = 0
	}
	f.mu.Unlock()
	signal(f.wake)
}

func (f *fakeRuntime) Create(ctx context.Context, c *spec.Container, from Origin) (string, error) {
	if err := f.call(ctx, "create "+c.Metadata.Name); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := &status.Status{Name: c.Metadata.Name, Applied: c, From: from, State: status.Created, CreatedAt: time.Now()}
	f.by[st.Name] = st
	if c.Spec.Suspend {
		return "", nil
	}
	return "", f.run(st)
}

func (f *fakeRuntime) Start(ctx context.Context, name string, o status.StartOptions) error {
	if o.Spec != nil {
		return f.Restart(ctx, o.Spec, o.From, o.ByAdmin)
	}
	if o.ByAdmin {
		f.noteAdmin(name, false)
	}
	if err := f.call(ctx, "start "+name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if o.ByPolicy {
		f.by[name].Restarts++
	}
	return f.run(f.by[name])
}

func (f *fakeRuntime) Update(ctx context.Context, c *spec.Container, from Origin) error {
	if err := f.call(ctx, "update "+c.Metadata.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[c.Metadata.Name]
	st.Applied, st.From, st.Drift = c, from, nil
	return nil
}

func (f *fakeRuntime) Restart(ctx context.Context, c *spec.Container, from Origin, byAdmin bool) error {
	if byAdmin {
		f.noteAdmin(c.Metadata.Name, false)
	}
	if err := f.call(ctx, "restart "+c.Metadata.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[c.Metadata.Name]
	f.halt(st)
	st.Applied, st.From, st.Restarts, st.Failures, st.Lost = c, from, 0, 0, nil
	if c.Spec.Suspend || st.StoppedAt != nil {
		return nil
	}
	return f.run(st)
}

func (f *fakeRuntime) Recognise(old, new *spec.Container) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if st := f.by[new.Metadata.Name]; st != nil && st.Applied == old {
		st.Applied = new
	}
}

func (f *fakeRuntime) Adopt(ctx context.Context, name string, from Origin) error {
	if err := f.call(ctx, "adopt "+name); err != nil {
		return err
	}
	f.set(func() { f.by[name].From = from })
	return nil
}

func (f *fakeRuntime) Stop(ctx context.Context, name string, o status.StopOptions) error {
	if o.ByAdmin {
		f.noteAdmin(name, true)
	}
	if o.Spec != nil {
		return f.Restart(ctx, o.Spec, o.From, false)
	}
	if err := f.call(ctx, "stop "+name); err != nil {
		return err
	}
	f.set(func() { f.halt(f.by[name]) })
	return nil
}

func (f *fakeRuntime) Remove(ctx context.Context, name string) error {
	if err := f.call(ctx, "remove "+name); err != nil {
		return err
	}
	f.set(func() { delete(f.by, name) })
	return nil
}

// noteAdmin notes that an admin stopped a container, or started it.
func (f *fakeRuntime) noteAdmin(name string, stopped bool) {
	f.set(func() {
		f.by[name].StoppedAt = nil
		if stopped {
			now := time.Now()
			f.by[name].StoppedAt = &now
		}
	})
}

func (f *fakeRuntime) HoldRemovals(why map[string]string) error {
	f.set(func() { f.holds.Removals = maps.Clone(why) })
	return nil
}

func (f *fakeRuntime) Holds() *status.Holds {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := status.Holds{Host: f.holds.Host, Containers: maps.Clone(f.holds.Containers), Removals: f.holds.Removals}
	return &h
}

func (f *fakeRuntime) Hold(names []string, reason string) error {
	now := status.Hold{Since: time.Now(), Reason: reason}
	f.set(func() {
		if len(names) == 0 {
			f.holds.Host = &now
		}
		for _, name := range names {
			if f.holds.Containers == nil {
				f.holds.Containers = map[string]status.Hold{}
			}
			f.holds.Containers[name] = now
		}
	})
	return f.call(context.Background(), "hold "+strings.Join(names, ","))
}

func (f *fakeRuntime) Release(names []string) error {
	f.set(func() {
		if len(names) == 0 {
			f.holds.Host = nil
		}
		for _, name := range names {
			delete(f.holds.Containers, name)
		}
	})
	return f.call(context.Background(), "release "+strings.Join(names, ","))
}

func (f *fakeRuntime) Purge(ctx context.Context, name string) ([]string, error) {
	return nil, f.call(ctx, "purge "+name)
}

func (f *fakeRuntime) Expire(context.Context, time.Duration) ([]string, error) { return nil, nil }

// shelf is manifest directories in memory. Unlike real ones it can be used where
// the clock is not.
type shelf struct {
	mu    sync.Mutex
	dirs  []source.Dir
	files map[string]*source.File // by path
	wake  chan struct{}
	last  *source.Reading
	reads int  // complete ones
	told  bool // an event has told of a change
	given *source.Reading
}

const etc = "/etc/stead/manifests"

func newShelf(files map[string]string) *shelf {
	s := &shelf{dirs: []source.Dir{{Path: etc}}, files: map[string]*source.File{}, wake: make(chan struct{}, 1)}
	for name, content := range files {
		s.put(name, content)
	}
	return s
}

func (s *shelf) put(name, content string) {
	s.putQuietly(name, content)
	s.tell()
}

func (s *shelf) tell() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = true
	signal(s.wake)
}

// putQuietly is put without an event.
func (s *shelf) putQuietly(name, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	path := etc + "/" + name
	s.files[path] = &source.File{Path: path, Rel: name, Documents: spec.Parser{}.Parse(path, []byte(content))}
	s.last = nil
}

func (s *shelf) remove(names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		delete(s.files, etc+"/"+name)
	}
	s.last, s.told = nil, true
	signal(s.wake)
}

func (s *shelf) health(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = []source.Dir{{Path: etc, Err: err}}
	s.last, s.told = nil, true
	signal(s.wake)
}

func (s *shelf) Watch(context.Context) {}
func (s *shelf) Wake() <-chan struct{} { return s.wake }
func (s *shelf) Renew()                {}

func (s *shelf) Follow() *source.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.told || s.given == nil {
		return s.read()
	}
	return s.given
}

func (s *shelf) Read() *source.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	return s.read()
}

func (s *shelf) read() *source.Reading {
	if s.last == nil {
		s.last = &source.Reading{Dirs: s.dirs}
		for _, path := range slices.Sorted(maps.Keys(s.files)) {
			if s.dirs[0].Err == nil {
				s.last.Files = append(s.last.Files, s.files[path])
			}
		}
	}
	s.given, s.told = s.last, false
	return s.last
}

// yaml is a valid manifest, with more lines of its spec.
func yaml(name string, lines ...string) string {
	text := "apiVersion: stead/v1\nkind: Container\nmetadata: {name: " + name + "}\nspec:\n  rootfs: {host: {}}\n  network: {mode: none}\n"
	command := "  command: [sleep, infinity]\n"
	for _, l := range lines {
		if len(l) > 8 && l[:8] == "command:" {
			command = ""
		}
		text += "  " + l + "\n"
	}
	return text + command
}

// parsed is the container of a manifest.
func parsed(t testing.TB, content string) *spec.Container {
	t.Helper()
	doc := spec.Parser{}.Parse("test.yaml", []byte(content))[0]
	if doc.Container == nil {
		t.Fatal(doc.Errors)
	}
	return doc.Container
}

// running is a container that runs, from the file of its name.
func running(t testing.TB, name string, lines ...string) *status.Status {
	return &status.Status{
		Name: name, Applied: parsed(t, yaml(name, lines...)), From: Origin{File: etc + "/" + name + ".yaml"},
		State: status.Running, Pid: 100, CreatedAt: noon.Add(-time.Hour), StartedAt: noon.Add(-time.Hour),
	}
}

// ended is one whose command has ended.
func ended(t testing.TB, name string, exit status.Exit, ago time.Duration, lines ...string) *status.Status {
	st := running(t, name, lines...)
	st.State, st.Pid, st.FinishedAt, st.Exit = status.Exited, 0, noon.Add(-ago), &exit
	return st
}

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// planOf is what Diff makes of files and containers at noon.
func planOf(files map[string]string, observed []*status.Status, m Memory) (*Desired, Plan) {
	d := Declare(newShelf(files).Read()).Combine(observed)
	return d, Diff(d, observed, m, noon)
}

func lines(list []string) string {
	var text string
	for _, l := range list {
		text += fmt.Sprintln(l)
	}
	return text
}
