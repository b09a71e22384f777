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

	"stead/reconcile/desired"
	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// calls notes what the fakes are asked, and says how that ends.
type calls struct {
	mu    sync.Mutex
	list  []string
	fail  map[string]error         // by "verb name"
	block map[string]chan struct{} // by "verb name": the call waits until it is closed
}

// fakeRuntime is a host in memory: its containers, what is on hold, and removed data.
type fakeRuntime struct {
	*calls
	holds   *fakeHolds
	removed *fakeRemoved
	images  *fakeImages

	by   map[string]*status.Status
	wake chan struct{}
	pids int

	faults []status.Fault
	root   map[string]string // by name: what is wrong with its root, so that starts fail
}

// fakeHolds are holds in memory.
type fakeHolds struct {
	*calls
	now status.Holds
}

// fakeImages are the images of a host in memory; each pull finds what it asks for.
type fakeImages struct {
	*calls
	now      status.Images
	progress func(report func(done, total int64)) // called by Pull and Import; may be nil
}

// fakeRemoved has no data of removed containers.
type fakeRemoved struct {
	*calls
	images map[string]status.ImageUse
}

func newFake(list ...*status.Status) *fakeRuntime {
	c := &calls{fail: map[string]error{}, block: map[string]chan struct{}{}}
	f := &fakeRuntime{
		calls: c, holds: &fakeHolds{calls: c}, removed: &fakeRemoved{calls: c}, images: &fakeImages{calls: c},
		by: map[string]*status.Status{}, wake: make(chan struct{}, 1), root: map[string]string{},
	}
	for _, st := range list {
		own := *st
		f.by[st.Name] = &own
	}
	return f
}

// newEngine is an engine of manifests on a host in memory.
func newEngine(m Manifests, rt *fakeRuntime) *Engine {
	return &Engine{Source: m, Observer: rt, Containers: rt, Reloader: rt, Restorer: rt, Images: rt.images, Holds: rt.holds, Removed: rt.removed}
}

// call notes a call, waits as told and says whether it fails.
func (f *calls) call(ctx context.Context, line string) error {
	f.mu.Lock()
	f.list = append(f.list, line)
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

func (f *calls) said() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.list)
}

func (f *calls) set(change func()) {
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

func (f *fakeRuntime) Faults() []status.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.faults)
}

// run starts the command of a container; the lock is held.
func (f *fakeRuntime) run(st *status.Status) error {
	if name := st.Applied.Spec.Rootfs.Image; name != "" && (st.Image == nil || st.Image.Reference != name) {
		m, there := f.images.now.Find(name)
		if !there {
			return errors.New("image " + name + " is not in the store of this host")
		}
		st.Image = &status.ImageUse{Reference: name, Digest: m.Digest}
	}
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

func (f *fakeRuntime) Create(ctx context.Context, c *spec.Container, from status.Origin) (string, error) {
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
	if err := f.call(ctx, "start "+name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[name]
	if o.ByAdmin {
		st.StoppedAt = nil
	}
	if o.ByPolicy {
		st.Restarts++
	}
	if o.Spec != nil {
		st.Applied, st.From, st.Restarts, st.Failures = o.Spec, o.From, 0, 0
	}
	return f.run(st)
}

func (f *fakeRuntime) Update(ctx context.Context, c *spec.Container, from status.Origin) error {
	if err := f.call(ctx, "update "+c.Metadata.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[c.Metadata.Name]
	st.Applied, st.From, st.Drift = c, from, nil
	return nil
}

func (f *fakeRuntime) Restart(ctx context.Context, c *spec.Container, from status.Origin, byAdmin bool) error {
	if err := f.call(ctx, "restart "+c.Metadata.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[c.Metadata.Name]
	f.halt(st)
	if byAdmin {
		st.StoppedAt = nil
	}
	st.Applied, st.From, st.Restarts, st.Failures, st.Lost = c, from, 0, 0, nil
	if c.Spec.Suspend || st.StoppedAt != nil {
		return nil
	}
	return f.run(st)
}

func (f *fakeRuntime) Reload(ctx context.Context, name string) error {
	if err := f.call(ctx, "reload "+name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if st := f.by[name]; st == nil || st.State != status.Running {
		return errors.New("it does not run")
	}
	return nil
}

func (f *fakeRuntime) Restore(ctx context.Context, name, _ string) (string, error) {
	if err := f.call(ctx, "restore "+name); err != nil {
		return "", err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if st := f.by[name]; st != nil && st.State == status.Running {
		return "", errors.New("it runs")
	}
	return "", nil
}

func (f *fakeRuntime) Rename(ctx context.Context, old string, c *spec.Container, from status.Origin) error {
	if err := f.call(ctx, "rename "+old+" "+c.Metadata.Name); err != nil {
		return err
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	st := f.by[old]
	if st == nil {
		return nil
	}
	f.halt(st)
	delete(f.by, old)
	st.Name = c.Metadata.Name
	f.by[st.Name] = st
	st.Applied, st.From, st.Restarts, st.Failures, st.Lost = c, from, 0, 0, nil
	st.State, st.Exit, st.FinishedAt = status.Created, nil, time.Time{}
	if c.Spec.Suspend || st.StoppedAt != nil {
		return nil
	}
	return f.run(st)
}

func (f *fakeRuntime) Adopt(ctx context.Context, name string, from status.Origin) error {
	if err := f.call(ctx, "adopt "+name); err != nil {
		return err
	}
	f.set(func() { f.by[name].From = from })
	return nil
}

func (f *fakeRuntime) Stop(ctx context.Context, name string, o status.StopOptions) error {
	if err := f.call(ctx, "stop "+name); err != nil {
		return err
	}
	f.set(func() {
		st := f.by[name]
		if now := time.Now(); o.ByAdmin {
			st.StoppedAt = &now
		}
		f.halt(st)
		if o.Spec != nil {
			st.Applied, st.From, st.Restarts, st.Failures = o.Spec, o.From, 0, 0
		}
	})
	return nil
}

func (f *fakeRuntime) Remove(ctx context.Context, name string) error {
	if err := f.call(ctx, "remove "+name); err != nil {
		return err
	}
	f.set(func() { delete(f.by, name) })
	return nil
}

func (f *fakeHolds) HoldRemovals(why map[string]string) error {
	f.set(func() { f.now.Removals = maps.Clone(why) })
	return nil
}

func (f *fakeHolds) Holds() *status.Holds {
	f.mu.Lock()
	defer f.mu.Unlock()
	h := status.Holds{Host: f.now.Host, Containers: maps.Clone(f.now.Containers), Removals: f.now.Removals}
	return &h
}

func (f *fakeHolds) Hold(names []string, reason string) error {
	now := status.Hold{Since: time.Now(), Reason: reason}
	f.set(func() {
		if len(names) == 0 {
			f.now.Host = &now
		}
		for _, name := range names {
			if f.now.Containers == nil {
				f.now.Containers = map[string]status.Hold{}
			}
			f.now.Containers[name] = now
		}
	})
	return f.call(context.Background(), "hold "+strings.Join(names, ","))
}

func (f *fakeHolds) Release(names []string) error {
	f.set(func() {
		if len(names) == 0 {
			f.now.Host = nil
		}
		for _, name := range names {
			delete(f.now.Containers, name)
		}
	})
	return f.call(context.Background(), "release "+strings.Join(names, ","))
}

func (f *fakeImages) Stored() (*status.Images, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return &status.Images{ByName: maps.Clone(f.now.ByName), Digests: maps.Clone(f.now.Digests)}, nil
}

// put stores an image.
func (f *fakeImages) put(m status.Image) {
	f.set(func() {
		if f.now.ByName == nil {
			f.now.ByName, f.now.Digests = map[string]status.Image{}, map[string]bool{}
		}
		f.now.ByName[m.Name], f.now.Digests[m.Digest] = m, true
	})
}

func (f *fakeImages) Pull(ctx context.Context, reference string, progress func(done, total int64)) error {
	return f.add(ctx, "pull "+reference, status.Image{Name: reference, Digest: "sha256:" + reference, Source: reference}, progress)
}

func (f *fakeImages) Import(ctx context.Context, m *spec.Image, progress func(done, total int64)) error {
	source := m.Spec.Source.Text()
	return f.add(ctx, "import "+m.Metadata.Name, status.Image{Name: m.Metadata.Name, Digest: "sha256:" + source, Source: source, Asked: m.Spec.Digest}, progress)
}

func (f *fakeImages) add(ctx context.Context, call string, m status.Image, progress func(done, total int64)) error {
	if f.progress != nil {
		f.progress(progress)
	}
	if err := f.call(ctx, call); err != nil {
		return err
	}
	f.put(m)
	return nil
}

func (f *fakeRemoved) Image(name string) (use status.ImageUse, ok bool) {
	use, ok = f.images[name]
	return use, ok
}

func (f *fakeRemoved) Purge(ctx context.Context, name string) ([]string, error) {
	return nil, f.call(ctx, "purge "+name)
}

func (*fakeRemoved) Expire(context.Context, time.Duration) ([]string, error) { return nil, nil }

// shelf is manifest directories in memory. Unlike real ones it can be used where
// the clock is not.
type shelf struct {
	mu    sync.Mutex
	dirs  []source.Dir
	files map[string]*source.File // by path
	wake  chan struct{}
	last  *source.Reading
	reads int
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
	s.last = nil
	signal(s.wake)
}

func (s *shelf) health(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirs = []source.Dir{{Path: etc, Err: err}}
	s.last = nil
	signal(s.wake)
}

func (s *shelf) Watch(context.Context) {}
func (s *shelf) Wake() <-chan struct{} { return s.wake }
func (s *shelf) Renew()                {}

func (s *shelf) Read() *source.Reading {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reads++
	if s.last == nil {
		s.last = &source.Reading{Dirs: s.dirs}
		for _, path := range slices.Sorted(maps.Keys(s.files)) {
			if s.dirs[0].Err == nil {
				s.last.Files = append(s.last.Files, s.files[path])
			}
		}
	}
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
		Name: name, Applied: parsed(t, yaml(name, lines...)), From: status.Origin{File: etc + "/" + name + ".yaml"},
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
func planOf(files map[string]string, observed []*status.Status, m plan.Memory) (*plan.Desired, plan.Plan) {
	observed = slices.SortedFunc(slices.Values(observed), func(a, b *status.Status) int { return strings.Compare(a.Name, b.Name) })
	d := desired.Declare(newShelf(files).Read()).Combine(observed)
	return d, plan.Diff(d, observed, m, noon)
}

func lines(list []string) string {
	var text string
	for _, l := range list {
		text += fmt.Sprintln(l)
	}
	return text
}
