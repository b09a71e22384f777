package runtime

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

	"stead/runtime/atomicfile"
	"stead/runtime/fault"
	"stead/runtime/files"
	"stead/runtime/launch"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// runFiles is what was written for the files of one run. A value never changes.
type runFiles struct {
	id     string
	states files.States
	status map[string]status.FileState
}

func newRunFiles(id string, states files.States) *runFiles {
	if len(states) == 0 {
		return nil
	}
	f := &runFiles{id, states, make(map[string]status.FileState, len(states))}
	for path, st := range states {
		f.status[path] = status.FileState{Sum: st.Sum, Dir: st.Dir}
	}
	return f
}

// filesStore returns the store of a run directory.
func filesStore(runDir string) *files.Store {
	return &files.Store{Dir: filepath.Join(store.Resolved(runDir), "files"), Base: spec.FilesDir}
}

// sources returns the paths from which containers get files.
func (r *Runtime) sources() (paths []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ordered {
		paths = append(paths, c.facts.Manifest.SourcePaths()...)
	}
	return paths
}

// loadFiles reads what was written for the runs of an earlier process.
func (r *Runtime) loadFiles() {
	for _, c := range r.running() {
		r.loadFilesOf(c)
	}
}

func (r *Runtime) loadFilesOf(c *container) {
	f, rec := r.snapshot(c)
	if !hasFiles(f.Manifest) {
		return
	}
	states, err := r.files.States(rec.ID())
	if err != nil {
		r.Log.Error("cannot read which files the container has; they are written again", "container", c.name, "error", err)
		states = files.States{}
	}
	r.setFiles(c, rec.ID(), states)
}

func (r *Runtime) setFiles(c *container, id string, states files.States) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.files = newRunFiles(id, states)
}

// hasFiles reports whether a manifest takes content from files.
func hasFiles(m *spec.Container) bool {
	return len(m.Spec.Files)+len(m.Spec.EnvFiles)+len(m.Spec.EnvSecrets) > 0
}

// writeFiles writes the files of a run that is about to start, and adds them and the variables
// from files to its configuration. m is the manifest of f with what its image says.
func (r *Runtime) writeFiles(c *container, rec *record.Record, f *store.Facts, m *spec.Container, config *launch.Config) error {
	if !hasFiles(m) {
		r.setFiles(c, "", nil)
		return nil
	}
	entries, err := r.paths.Files(m, config.Root.Path)
	if err != nil {
		return err
	}
	vars, sums, err := r.paths.Env(m)
	if err != nil {
		return err
	}
	if err := r.files.Mount(); err != nil {
		return err
	}
	id := rec.ID()
	states, _, err := r.files.Write(id, entries, rec.IDBase)
	if err != nil {
		return err
	}
	addMounts(config, specconv.FileMounts(r.files, id, states))
	for target, sum := range sums {
		states[target] = files.State{Index: files.NoFile, Sum: sum}
	}
	if err := r.files.Record(id, states); err != nil {
		return err
	}
	if len(vars) > 0 {
		config.Process = specconv.WithEnv(config.Process, f.Manifest.Spec.Env, vars)
		if err := r.keepEnv(id, vars); err != nil {
			return err
		}
	}
	fault.Point("start-files-written")
	r.setFiles(c, id, states)
	return nil
}

// keepEnv keeps the variables from files for exec, in memory: the configuration that a start
// leaves for exec has them too, so it lies beside them.
func (r *Runtime) keepEnv(id string, vars []string) error {
	if err := r.files.WriteEnv(id, vars); err != nil {
		return err
	}
	return atomicfile.Symlink(record.PreparedPath(r.RunDir, id), r.files.PreparedPath(id))
}

// updateFiles writes what has changed in the files of a running container, and reloads it where
// they say so. What changes with a restart only stays as it is. The change is recorded last: if
// this process dies before, all of it is done again.
func (r *Runtime) updateFiles(ctx context.Context, c *container, rec *record.Record, m *spec.Container) error {
	r.mu.Lock()
	now := c.files
	r.mu.Unlock()
	if now == nil || now.id != rec.ID() {
		return nil
	}
	entries, err := r.paths.Files(m, r.root(m))
	if err != nil {
		return err
	}
	for i := range entries {
		e := &entries[i]
		e.Keep = m.Spec.Files[e.Path].OnChange == "restart" && e.Sum != now.states[e.Path].Sum
	}
	states, wrote, err := r.files.Write(rec.ID(), entries, rec.IDBase)
	if err != nil || len(wrote) == 0 {
		return err
	}
	for target, st := range now.states {
		if st.Index == files.NoFile { // it changes with a start only
			states[target] = st
		}
	}
	fault.Point("update-files-written")
	if slices.ContainsFunc(wrote, func(path string) bool { return m.Spec.Files[path].OnChange == "reload" }) {
		if err := r.reload(ctx, c, rec, m); err != nil {
			return err
		}
		fault.Point("update-reloaded")
	}
	if err := r.files.Record(rec.ID(), states); err != nil {
		return err
	}
	r.setFiles(c, rec.ID(), states)
	return nil
}

// tidyFiles removes what running containers do not read any more.
func (r *Runtime) tidyFiles() {
	r.mu.Lock()
	var all []*runFiles
	for _, c := range r.ordered {
		if c.files != nil && c.rec != nil && c.rec.State == record.Running && !c.updating {
			all = append(all, c.files)
		}
	}
	r.mu.Unlock()
	for _, f := range all {
		if err := r.files.Tidy(f.id, f.states); err != nil {
			r.Log.Error("cannot remove old content of files", "run", f.id, "error", err)
		}
	}
}

// addMounts adds mounts to those of a configuration: parents come before children.
func addMounts(c *launch.Config, more []launch.Mount) {
	c.Mounts = append(c.Mounts, more...)
	slices.SortFunc(c.Mounts, func(a, b launch.Mount) int { return strings.Compare(a.Target, b.Target) })
}

// sweepFileContent removes the content of runs that are over.
func (r *Runtime) sweepFileContent(known map[string]bool) {
	for _, id := range r.files.Runs() {
		if !known[id] {
			r.clearFiles(id)
		}
	}
}

func (r *Runtime) clearFiles(id string) {
	if err := r.files.Remove(id); err != nil {
		r.Log.Error("cannot remove the files of a run", "run", id, "error", err)
	}
}
