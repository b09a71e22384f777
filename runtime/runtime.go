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
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/drift"
	"stead/runtime/fault"
	"stead/runtime/files"
	"stead/runtime/image"
	imageregistry "stead/runtime/image/registry"
	"stead/runtime/keeper"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/runtime/touch"
	"stead/runtime/weak"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Options are the arguments of Open.
type Options struct {
	StateDir     string // durable facts and data; 0700
	RunDir       string // facts of this boot; 0700
	CgroupParent string // parent of the containers' cgroups
	// FirstID and IDs are the pool of host ids for user namespaces, 65,536 for each
	// container; 0 and 0 are the default. Containers keep their ids when the pool changes.
	FirstID, IDs uint32
	Log          *slog.Logger
	// Upgrade makes a keeper of another binary execute this program's binary. Only the
	// daemon sets it, so that two versions of a command don't upgrade it in turns.
	Upgrade bool
	// Watch makes the kernel report which cgroups change, so that most checks need not
	// read them. The daemon sets it, as it checks again and again.
	Watch bool
	// Config and Manifests are paths that no container may write, as in SetProtected.
	Config    string
	Manifests []string
	// Registries are the settings of registries of images, by host.
	Registries map[string]imageregistry.Settings
	// ReadOnly makes Open only read facts: it makes, recovers and watches nothing.
	// Commands that run beside a daemon set it.
	ReadOnly bool
	// Only lists the containers to read, so that a question about one costs the same
	// among thousands; nil reads all. It needs ReadOnly.
	Only []string
}

// Runtime manages the containers of one state directory. Its methods may be called
// concurrently for different containers; calls for one name must not overlap, except
// for List.
type Runtime struct {
	Options
	Holds    *store.Holds
	Writable *store.Writable
	Removed  *store.Removed // nil with Only
	Images   *Images

	ids    *store.IDRanges
	guard  touch.Guard // of file systems that may hang
	host   *cgroup.Host
	keeper *supervisor
	wake   chan struct{}

	registry
	pending   pendingWrites
	files     *files.Store
	paths     specconv.Paths
	inspector *drift.Inspector // nil if ReadOnly
	images    *image.Store

	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup // goroutines that Close waits for
}

// Open reads the facts and records of the containers of a state directory. Unless
// ReadOnly is set it finishes or undoes what an earlier process left half-done, and
// watches the keeper, if one runs.
func Open(ctx context.Context, o Options) (*Runtime, error) {
	if o.Only != nil && !o.ReadOnly {
		return nil, errors.New("open: Only needs ReadOnly") // ids and recovery need all
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
		images: image.Open(filepath.Join(o.StateDir, "images")),
		wake:   make(chan struct{}, 1), registry: registry{byName: map[string]*container{}, unread: map[string]uint32{}, restoring: map[string]string{}},
	}
	r.Images = r.newImages()
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
		Client: keeper.Client{Run: o.RunDir, Health: &keeper.Health{}}, host: host, holds: r.Holds, log: o.Log, upgrade: o.Upgrade, readOnly: o.ReadOnly,
		ended: func(id string) { r.syncRun(id) }, replaced: r.refresh, changed: r.changed, ctx: r.ctx, cancel: r.cancel, tasks: &r.tasks,
	}
	if r.Writable, err = store.OpenWritable(o.StateDir); err != nil {
		return nil, err
	}
	r.files = filesStore(r.RunDir)
	r.paths.Writable, r.paths.Sources = r.Writable, r.sources
	if r.paths.Key, err = files.OpenKey(o.StateDir, o.ReadOnly); err != nil {
		return nil, err
	}
	if err := r.load(); err != nil {
		return nil, err
	}
	r.loadFiles()
	if o.Only == nil {
		if r.Removed, err = store.OpenRemoved(o.StateDir); err != nil {
			return nil, err
		}
	}
	if o.ReadOnly {
		r.countOOMKills()
		return r, nil
	}
	r.tasks.Go(func() { r.Removed.FinishDeletions(r.ctx, r.Log) })
	if err := r.undoCreates(); err != nil {
		r.Log.Error("cannot move a container back to removed/", "error", err)
	}
	r.inspector = drift.New(driftView{r}, host, o.RunDir, o.Watch, o.Log)
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

// Close stops watching. Containers and keeper continue to run.
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
	// Set-user-ID files that a container makes belong to root on disk: no other user
	// may reach them.
	for _, d := range []string{r.StateDir, r.RunDir} {
		if err := os.Chmod(d, 0o700); err != nil {
			return err
		}
	}
	return nil
}

// SetProtected sets the paths of the configuration and the manifests, which no container
// may write.
func (r *Runtime) SetProtected(config string, manifests []string) {
	r.paths.SetProtected(specconv.ProtectedPaths(r.StateDir, r.RunDir, config, manifests))
}

// Notes returns what an admin should know about this host and its keeper.
func (r *Runtime) Notes(ctx context.Context) []string {
	ctx, cancel := context.WithTimeout(ctx, noteTimeout)
	defer cancel()
	notes, _ := r.keeper.Notes(ctx) // without a keeper there is nothing to say
	return notes
}

// leastSpace is the free space, in bytes, below which a disk counts as full: less than what a few
// changes of facts and a round of output need.
const leastSpace = 1 << 20

// fullDisk says that the disk of a directory is full, or returns "".
func fullDisk(dir string) string {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return ""
	}
	what := ""
	switch free := st.Bfree * uint64(st.Bsize); {
	case free < leastSpace:
		what = spec.Bytes(free).String() + " are free"
	case st.Files > 0 && st.Ffree == 0:
		what = "no inode is free"
	default:
		return ""
	}
	return "the disk of " + dir + " is full: " + what + ". Output of containers is lost, and changes can't be saved; free space, or run stead stop for the container that fills it"
}

// noteTimeout is how long a status may wait for the keeper.
const noteTimeout = 2 * time.Second

// SetTrusted sets the users, beside root, whose links to sources of files are followed.
func (r *Runtime) SetTrusted(owners []uint32) { r.paths.SetTrusted(owners) }

// FilesKey returns the key with which the content of files is summed up.
func (r *Runtime) FilesKey() files.Key { return r.paths.Key }

// SetIDs changes the pool of host ids for new containers, as in Options. Existing
// containers keep their ids.
func (r *Runtime) SetIDs(first, count uint32) error { return r.ids.SetPool(first, count) }

// dir returns a container's directory.
func (r *Runtime) dir(name string) string { return filepath.Join(r.StateDir, "containers", name) }

// LogDir returns the directory of a container's output.
func (r *Runtime) LogDir(name string) string { return filepath.Join(r.dir(name), "log") }

// load reads all facts and boot records into memory. It logs facts that it can't read and
// changes nothing of their containers.
func (r *Runtime) load() error {
	names, err := r.names()
	if err != nil {
		return err
	}
	for _, name := range names {
		err := r.loadFacts(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) { // not there: of a Create that was interrupted; the next one continues it
			r.unread[name] = 0
			r.Log.Error("cannot read container.json; container not managed, and what runs of it goes on", "container", name, "error", err)
		}
	}
	r.loadRecords()
	return nil
}

// undoCreates moves what an interrupted Create brought back to removed/ again. If its manifest is
// still there, the next Create brings it back.
func (r *Runtime) undoCreates() error {
	names, failed := r.names()
	for _, name := range names {
		if _, err := r.find(name); err != nil && !r.isUnread(name) {
			failed = errors.Join(failed, r.Removed.UndoBringBack(name, r.dir(name)))
		}
	}
	return failed
}

// loadFacts reads the facts of a container into memory.
func (r *Runtime) loadFacts(name string) error {
	f, err := store.ReadFacts(r.dir(name))
	if err != nil {
		return err
	}
	f.Manifest.Metadata.Name = name // differs if a rename was interrupted
	r.mu.Lock()
	reserved := r.unread[name]
	delete(r.unread, name)
	r.mu.Unlock()
	if reserved != f.IDBase {
		r.ids.Release(reserved)
	}
	if f.IDBase != 0 && reserved != f.IDBase && !r.ids.Take(f.IDBase) {
		r.Log.Error("ids overlap those of another container; new ids will be assigned at the next start", "container", name)
		f.IDBase = 0
	}
	r.put(&container{name: name, facts: f})
	return nil
}

// loadRecords reads the boot records of containers into memory: of those with these names, or of
// all.
func (r *Runtime) loadRecords(names ...string) {
	if names == nil {
		names = r.Only
	}
	records, err := record.ReadAll(r.RunDir, names...)
	if err != nil {
		r.Log.Error("cannot read boot records", "error", err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rec := range records {
		if r.ReadOnly && rec.State == record.Running && !rec.Alive() { // no keeper was there to see it
			rec.State, rec.Ending = record.Exited, &record.Ending{Code: -1, Unknown: true}
		}
		if rec.BootID != record.BootID() {
			continue
		}
		if c := r.byName[rec.Name]; c != nil && (c.rec == nil || rec.CreatedAt.After(c.rec.CreatedAt)) {
			c.rec = rec
		} else if _, unread := r.unread[rec.Name]; unread && r.ids.Take(rec.IDBase) { // no other container gets them
			r.unread[rec.Name] = rec.IDBase
		}
	}
}

// names returns the names of the containers to read.
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

// Wake returns a channel that receives after a container changed by itself.
func (r *Runtime) Wake() <-chan struct{} { return r.wake }

func (r *Runtime) changed() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// Check makes sure that a keeper holds the running containers, derives the state of each
// run again, and looks for drift: closely in all containers, or closely in the next few
// and cheaply in the others.
func (r *Runtime) Check(ctx context.Context, all bool) error {
	if len(r.running()) == 0 {
		r.resync(ctx) // some starts may have failed
		return nil
	}
	err := r.keeper.check(ctx)
	if err != nil && !errors.Is(err, keeper.ErrSilent) {
		return fmt.Errorf("check keeper: %w", err)
	}
	r.resync(ctx)
	r.tidyFiles()
	r.countOOMKills()
	r.inspect(all)
	return nil // a silent keeper is a fault of its own
}

// Faults returns what is wrong with stead itself on this host: a keeper that does not answer,
// logs that lose lines, a full disk.
func (r *Runtime) Faults() (all []status.Fault) {
	silent, told := r.keeper.Health.Silent(), r.keeper.Health.Faults()
	if r.ReadOnly && len(r.running()) > 0 { // nobody monitors the keeper
		var err error
		told, err = r.keeper.Faults(r.ctx)
		errors.As(err, &silent)
	}
	for _, f := range told {
		all = append(all, status.Fault(f))
	}
	if silent != nil {
		all = append(all, status.Fault{Subject: "keeper", Reason: status.ReasonKeeperSilent, Message: silent.Error(), Since: silent.Since})
	}
	if full := fullDisk(r.StateDir); full != "" {
		all = append(all, status.Fault{Subject: "disk", Reason: status.ReasonDiskFull, Message: full})
	}
	return all
}

// QuitKeeper ends the keeper if no container runs, and removes its files and cgroups.
// Otherwise the keeper stays, and that is no error.
func (r *Runtime) QuitKeeper(ctx context.Context) error {
	if len(r.running()) > 0 {
		return nil
	}
	if err := r.keeper.quit(ctx); err != nil {
		return err
	}
	return r.files.Unmount()
}

// root returns a container's root directory on the host.
func (r *Runtime) root(m *spec.Container) string { return specconv.Root(m, r.dir(m.Metadata.Name)) }
