package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"stead/runtime/cgroup"
	"stead/runtime/drift"
	"stead/runtime/fault"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/store"
	"stead/runtime/weak"
	"stead/spec"
)

// Options of Open.
type Options struct {
	StateDir     string // durable facts and data; 0700
	RunDir       string // facts of this boot; 0700
	CgroupParent string // group below which all containers' are
	// FirstID and IDs are the pool of host ids for user namespaces, 65,536 for each
	// container; 0 and 0 are the default. Containers keep what they have when it changes.
	FirstID, IDs uint32
	Log          *slog.Logger
	// Upgrade has a keeper of another binary become one of this program's: for
	// the daemon, so that two versions of a verb don't take turns.
	Upgrade bool
	// Watch has the kernel note who writes to cgroups, so that most looks need not
	// read them: for the daemon, which looks again and again.
	Watch bool
	// Config and Manifests are what no container may write, as SetProtected takes them.
	Config    string
	Manifests []string
	// ReadOnly only reads facts: nothing is made, recovered or watched. For
	// verbs beside a daemon.
	ReadOnly bool
	// Only has nothing but these containers read, so that a question about one
	// costs the same among thousands; nil is all. It needs ReadOnly.
	Only []string
}

// Runtime is the containers of one state directory. Its methods may be called
// at once for different containers; calls for one name must not overlap, but
// for List.
type Runtime struct {
	Options
	Holds    *store.Holds
	Writable *store.Writable
	Removed  *store.Removed // nil if it only reads

	ids    *store.IDRanges
	host   *cgroup.Host
	keeper *supervisor
	wake   chan struct{}

	registry
	pending   pendingWrites
	paths     specconv.Paths
	inspector *drift.Inspector // nil if it only reads

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines that Close waits for
}

// Open reads what is known about the containers of a state directory. Unless
// it only reads, it finishes or undoes what an earlier process left half-done,
// and watches the keeper, if one runs.
func Open(ctx context.Context, o Options) (*Runtime, error) {
	if o.Only != nil && !o.ReadOnly {
		return nil, errors.New("open a part of the containers to change them") // ids and recovery need all
	}
	ids, err := store.NewIDRanges(o.FirstID, o.IDs)
	if err != nil {
		return nil, err
	}
	host, err := cgroup.Detect(o.CgroupParent)
	if err != nil {
		return nil, err
	}
	r := &Runtime{
		Options: o, host: host, ids: ids,
		wake: make(chan struct{}, 1), registry: registry{byName: map[string]*container{}},
	}
	r.SetProtected(o.Config, o.Manifests)
	fault.Dir(o.RunDir)
	weak.Dir(o.RunDir)
	host.Owner = store.Resolved(o.StateDir)
	r.ctx, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	if !o.ReadOnly {
		if err := errors.Join(r.makeDirs(), store.PairDirs(r.StateDir, r.RunDir, r.host.Parent)); err != nil {
			return nil, err
		}
	}
	if r.Holds, err = store.OpenHolds(o.StateDir); err != nil {
		return nil, err
	}
	r.keeper = &supervisor{
		Client: keeper.Client{Run: o.RunDir}, host: host, holds: r.Holds, log: o.Log, upgrade: o.Upgrade, readOnly: o.ReadOnly,
		ended: r.syncRun, replaced: r.refresh, ctx: r.ctx, cancel: r.cancel, tasks: &r.tasks,
	}
	if r.Writable, err = store.OpenWritable(o.StateDir); err != nil {
		return nil, err
	}
	r.paths.Writable = r.Writable
	if err := r.load(); err != nil {
		return nil, err
	}
	if o.ReadOnly {
		return r, nil
	}
	if r.Removed, err = store.OpenRemoved(o.StateDir); err != nil {
		return nil, err
	}
	r.tasks.Go(func() { r.Removed.FinishDeletions(r.ctx, r.Log) })
	r.inspector = drift.New(observed{r}, host, o.RunDir, o.Watch, o.Log)
	roots := func(yield func(string, *spec.Container) bool) {
		for _, c := range r.ordered {
			if m := c.facts.Manifest; !yield(r.root(m), m) {
				return
			}
		}
	}
	if err := r.paths.NoteEarlier(roots); err != nil {
		return nil, err
	}
	if err := r.recover(ctx); err != nil {
		return nil, fmt.Errorf("recover: %w", err)
	}
	return r, nil
}

// Close stops watching. Containers and keeper run on.
func (r *Runtime) Close() {
	r.cancel()
	r.tasks.Wait()
	if r.inspector != nil {
		r.inspector.Close()
	}
}

func (r *Runtime) makeDirs() error {
	for _, d := range []string{r.StateDir, r.dir(""), filepath.Join(r.StateDir, "removed"), r.RunDir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return fmt.Errorf("make directory: %w", err)
		}
	}
	if err := record.MakeDirs(r.RunDir); err != nil {
		return fmt.Errorf("make directory: %w", err)
	}
	// Set-user-ID files that a container makes are root's on disk: nobody else
	// may get at them.
	for _, d := range []string{r.StateDir, r.RunDir} {
		if err := os.Chmod(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// SetProtected says where the configuration and the manifests are.
func (r *Runtime) SetProtected(config string, manifests []string) {
	r.paths.SetProtected(specconv.ProtectedPaths(r.StateDir, r.RunDir, config, manifests))
}

// SetIDs changes the pool of host ids that containers get from now on, as Options
// give it. What exists keeps its own.
func (r *Runtime) SetIDs(first, count uint32) error { return r.ids.SetPool(first, count) }

// dir is a container's directory.
func (r *Runtime) dir(name string) string { return filepath.Join(r.StateDir, "containers", name) }

// LogDir is where a container's output is.
func (r *Runtime) LogDir(name string) string { return filepath.Join(r.dir(name), "log") }

// load reads all facts into memory. Facts that can't be read are said and left
// alone: the container they are about stays as it is.
func (r *Runtime) load() error {
	names, err := r.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		f, err := store.ReadFacts(r.dir(name))
		if errors.Is(err, os.ErrNotExist) {
			continue // a create that did not get far: it is taken up by the next
		}
		if err != nil {
			r.Log.Error("container is left alone", "container", name, "error", err)
			continue
		}
		r.put(&container{name: name, facts: f})
		if f.IDBase != 0 && !r.ids.Take(f.IDBase) {
			r.Log.Error("ids are another container's: new ones are given at the next start", "container", name)
			f.IDBase = 0
		}
	}
	records, err := record.ReadAll(r.RunDir, r.Only...)
	if err != nil {
		r.Log.Error("read boot records", "error", err)
	}
	for _, rec := range records {
		if r.ReadOnly && rec.State == record.Running && !rec.Alive() { // no keeper was there to see it
			rec.State, rec.Ending = record.Exited, &record.Ending{Code: -1, Unknown: true}
		}
		if c := r.byName[rec.Name]; c != nil && rec.BootID == record.BootID() && (c.rec == nil || rec.CreatedAt.After(c.rec.CreatedAt)) {
			c.rec = rec
		}
	}
	return nil
}

// names are those of the containers to read.
func (r *Runtime) names() ([]string, error) {
	if r.Only != nil {
		return slices.DeleteFunc(slices.Clone(r.Only), func(name string) bool { return !filepath.IsLocal(name) || filepath.Base(name) != name }), nil
	}
	entries, err := os.ReadDir(r.dir(""))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, nil
}

// Wake receives after a container changed by itself.
func (r *Runtime) Wake() <-chan struct{} { return r.wake }

func (r *Runtime) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Check makes sure that a keeper holds what runs, derives again what memory says of
// each run, and looks for what was changed by hand: at all containers closely, or at
// some of them in their turn and at the others for what costs little.
func (r *Runtime) Check(ctx context.Context, all bool) error {
	if len(r.running()) == 0 {
		r.resync(ctx) // there may be starts that failed
		return nil
	}
	if err := r.keeper.check(ctx); err != nil {
		return fmt.Errorf("check keeper: %w", err)
	}
	r.resync(ctx)
	r.inspect(all)
	return nil
}

// QuitKeeper ends the keeper if it holds no container; what it leaves behind is
// removed. Otherwise it stays, and that is no error.
func (r *Runtime) QuitKeeper(ctx context.Context) error {
	if len(r.running()) > 0 {
		return nil
	}
	return r.keeper.quit(ctx)
}

// root is a container's root directory on the host.
func (r *Runtime) root(m *spec.Container) string { return specconv.Root(m, r.dir(m.Metadata.Name)) }
