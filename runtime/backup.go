package runtime

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"

	"stead/runtime/backup"
	"stead/runtime/cgroup"
	"stead/runtime/hostpath"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// BackupRequest returns what a backup of a container copies. It changes nothing.
func (r *Runtime) BackupRequest(name string) (*backup.Request, error) {
	q, err := r.copyRequest(name, false)
	if err != nil && !errors.Is(err, status.ErrMissing) {
		err = fmt.Errorf("back up %s: %w", name, err)
	}
	return q, err
}

// copyRequest returns what a copy of a container holds: what its backups hold, or all that it keeps.
func (r *Runtime) copyRequest(name string, all bool) (*backup.Request, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	f, _ := r.snapshot(c)
	m := f.Manifest
	if all {
		m = wholly(m)
	}
	q := &backup.Request{Record: r.dir(name), RunDir: r.RunDir, Scratch: r.StateDir}
	q.Index = backup.Index{Name: name, Mounts: mountsOf(f.Manifest)}
	q.Index.Origin, q.Index.Document = f.From.File, f.From.Document
	if q.Applied, err = appliedText(f.Manifest); err != nil {
		return nil, err
	}
	q.Manifest, _ = readText(f.From.File) // it may be gone; the manifest as applied is not
	for _, file := range f.From.DropIns {
		if text, err := readText(file); err == nil {
			q.DropIns = append(q.DropIns, text)
		}
	}
	if err := r.addTrees(q, name, m); err != nil {
		return nil, err
	}
	if f.Image != nil && q.Index.Root == "image" {
		q.Index.Image = &backup.Image{Reference: f.Image.Reference, Digest: f.Image.Digest}
		if img, err := r.images.ByDigest(f.Image.Digest); err == nil {
			q.Index.Image.Layers = diffIDs(img)
		}
	}
	if b := m.Spec.Backup; !all && b != nil && b.Freeze != nil && !*b.Freeze {
		q.Unfrozen = true
		return q, nil
	}
	q.Runs, err = r.runsToFreeze(m, name)
	return q, err
}

// RunBackupHook runs a hook of a backup in a container that runs.
func (r *Runtime) RunBackupHook(ctx context.Context, name, which string, h *spec.Hook) error {
	c, err := r.find(name)
	if err != nil || h == nil {
		return err
	}
	if _, rec := r.snapshot(c); rec == nil || rec.State != record.Running {
		return nil
	}
	if err := r.runLogged(ctx, c, h.Exec, time.Duration(h.Timeout)); err != nil {
		return fmt.Errorf("backup.%s: %w", which, err)
	}
	return nil
}

// runsToFreeze returns the run of a container, if it runs, and those of all that write its volumes.
func (r *Runtime) runsToFreeze(m *spec.Container, name string) (runs []backup.Run, err error) {
	volumes := volumesOf(m)
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.ordered {
		if c.rec == nil || c.rec.State == record.Exited || c.name != name && !writesAny(c.facts.Manifest, volumes) {
			continue
		}
		if c.rec.State == record.Creating {
			return nil, fmt.Errorf("%s is just being started; try again", c.name)
		}
		if r.host.Mode == cgroup.V1 {
			return nil, fmt.Errorf("this host has no cgroup2 mount, without which a running container can't be frozen; run stead stop %s, this again, and stead start %[1]s", c.name)
		}
		runs = append(runs, backup.Run{ID: c.rec.ID(), Cgroup: r.host.Group(c.rec.ID()).UnifiedDir()})
	}
	return runs, nil
}

// volumesOf returns the volumes of a manifest that a backup copies, sorted.
func volumesOf(m *spec.Container) (all []string) {
	if !m.Spec.Backup.Includes("volumes") {
		return nil
	}
	for _, mount := range m.Spec.Mounts {
		if mount.Volume != "" {
			all = append(all, mount.Volume)
		}
	}
	return slices.Compact(slices.Sorted(slices.Values(all)))
}

func writesAny(m *spec.Container, volumes []string) bool {
	for _, mount := range m.Spec.Mounts {
		if !mount.ReadOnly && slices.Contains(volumes, mount.Volume) {
			return true
		}
	}
	return false
}

// writersOf returns the runs of containers that write volumes, from the files of the state
// directory: a container may have started since runsToFreeze.
func writersOf(stateDir, runDir string, volumes []string) (ids []string, err error) {
	records, err := record.ReadAll(runDir)
	for _, rec := range records {
		if rec.State == record.Exited {
			continue
		}
		f, err := store.ReadFacts(filepath.Join(stateDir, "containers", rec.Name))
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if writesAny(f.Manifest, volumes) {
			ids = append(ids, rec.ID())
		}
	}
	return ids, err
}

// addTrees adds the directories that a backup of a container copies.
func (r *Runtime) addTrees(q *backup.Request, name string, m *spec.Container) error {
	root := &m.Spec.Rootfs
	q.Index.Root = rootKind(m)
	if q.Index.Root == "path" {
		q.Index.RootPath = root.Path
	}
	if m.Spec.Backup.Includes("root") {
		if err := r.addRoot(q, name, m); err != nil {
			return err
		}
	}
	for _, volume := range volumesOf(m) {
		if err := r.addTree(q, backup.VolumeTree(volume), Volumes(r.StateDir).Path(volume)); err != nil {
			return fmt.Errorf("volume %s: %w", volume, err)
		}
	}
	for i := range q.Index.Mounts {
		mount := &q.Index.Mounts[i]
		mount.Included = mount.Kind == "volume" && m.Spec.Backup.Includes("volumes")
		if mount.Kind != "bind" || !m.Spec.Backup.Includes(mount.Target) {
			continue
		}
		dir, err := r.openHostDirectory(mount.Source)
		if err == nil {
			err = r.addTree(q, backup.BindTree(len(q.Index.Trees), mount.Target), dir)
		}
		if err != nil {
			return fmt.Errorf("open what is mounted at %s: %w", mount.Target, err)
		}
		mount.Included = true
	}
	if len(q.Index.Trees) == 0 {
		return errors.New("backup.include has nothing that could be copied")
	}
	return nil
}

// addTree adds a directory.
func (r *Runtime) addTree(q *backup.Request, t backup.Tree, dir string) error {
	st, err := os.Lstat(dir)
	if errors.Is(err, os.ErrNotExist) {
		return errors.New("it has no files yet, as the container was never started")
	}
	if err == nil && !st.IsDir() {
		err = fmt.Errorf("%s is no directory; only directories can be in a backup", dir)
	}
	q.Index.Trees, q.Dirs = append(q.Index.Trees, t), append(q.Dirs, dir)
	return err
}

// openHostDirectory returns the path of a directory of the host without links.
func (r *Runtime) openHostDirectory(path string) (string, error) {
	fd, real, err := hostpath.Open(path, r.Writable.Contains)
	if err != nil {
		return "", err
	}
	unix.Close(fd)
	return real, nil
}

// addRoot adds the private files of a container.
func (r *Runtime) addRoot(q *backup.Request, name string, m *spec.Container) error {
	dir := r.dir(name) + "/upper"
	switch q.Index.Root {
	case "host":
		q.Index.Records = map[string]string{}
		for _, record := range rootfs.EtcRecords {
			if text, err := readText(r.dir(name) + "/" + record); err == nil {
				q.Index.Records[record] = text
			}
		}
	case "path":
		real, err := r.openHostDirectory(m.Spec.Rootfs.Path)
		if err != nil {
			return fmt.Errorf("open rootfs.path: %w", err)
		}
		dir = real
	}
	if err := r.addTree(q, backup.Tree{Name: backup.RootTree, Overlay: q.Index.Root == "image"}, dir); err != nil {
		return err
	}
	if volumes := r.dir(name) + "/volumes"; q.Index.Root == "image" {
		if _, err := os.Lstat(volumes); err == nil {
			return r.addTree(q, backup.Tree{Name: backup.ImageVolumes}, volumes)
		}
	}
	return nil
}

// mountsOf lists the mounts of a manifest.
func mountsOf(m *spec.Container) (all []backup.Mount) {
	for _, target := range slices.Sorted(maps.Keys(m.Spec.Mounts)) {
		mount := m.Spec.Mounts[target]
		kind, source := "volume", mount.Volume
		if mount.Source != "" {
			kind, source = "bind", mount.Source
		} else if mount.Tmpfs != nil {
			kind = "tmpfs"
		}
		all = append(all, backup.Mount{Target: target, Kind: kind, Source: source, Writable: !mount.ReadOnly})
	}
	return all
}

// readText reads a manifest as its author wrote it.
func readText(file string) (string, error) {
	fd, err := unix.Open(file, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return "", err
	}
	f := os.NewFile(uintptr(fd), file)
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", errors.Join(err, errors.New("no regular file"))
	}
	b, err := io.ReadAll(io.LimitReader(f, spec.MaxFileSize))
	return string(b), err
}
