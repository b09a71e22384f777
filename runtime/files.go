package runtime

import (
	"context"
	"path/filepath"
	"slices"
	"strings"

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
		for _, f := range c.facts.Manifest.Spec.Files {
			if f.Source != "" {
				paths = append(paths, f.Source)
			}
		}
	}
	return paths
}

// loadFiles reads what was written for the runs of an earlier process.
func (r *Runtime) loadFiles() {
	for _, c := range r.running() {
		if len(c.facts.Manifest.Spec.Files) == 0 {
			continue
		}
		states, err := r.files.States(c.rec.ID())
		if err != nil {
			r.Log.Error("cannot read which files the container has; they are written again", "container", c.name, "error", err)
		}
		r.setFiles(c, c.rec.ID(), states)
	}
}

func (r *Runtime) setFiles(c *container, id string, states files.States) {
	r.mu.Lock()
	defer r.mu.Unlock()
	c.files = newRunFiles(id, states)
}

// writeFiles writes the files of a run that is about to start, and returns the mounts that
// show them to it.
func (r *Runtime) writeFiles(c *container, rec *record.Record, m *spec.Container, root string) ([]launch.Mount, error) {
	if len(m.Spec.Files) == 0 {
		r.setFiles(c, "", nil)
		return nil, nil
	}
	entries, err := r.paths.Files(m, root)
	if err != nil {
		return nil, err
	}
	if err := r.files.Mount(); err != nil {
		return nil, err
	}
	states, _, err := r.files.Write(rec.ID(), entries, rec.IDBase)
	if err == nil {
		err = r.files.Record(rec.ID(), states)
	}
	if err != nil {
		return nil, err
	}
	fault.Point("start-files-written")
	r.setFiles(c, rec.ID(), states)
	return specconv.FileMounts(r.files, rec.ID(), states), nil
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
