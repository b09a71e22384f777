package runtime

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"

	"stead/runtime/backup"
	"stead/runtime/cgroup"
	"stead/runtime/hostpath"
	"stead/runtime/record"
	"stead/runtime/rootfs"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// BackupRequest returns what a backup of a container copies. It changes nothing.
func (r *Runtime) BackupRequest(name string) (*backup.Request, error) {
	c, err := r.find(name)
	if err != nil {
		return nil, err
	}
	f, rec := r.snapshot(c)
	q := &backup.Request{Record: r.dir(name), Scratch: r.StateDir}
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
	if err := r.addTrees(q, name, f.Manifest); err != nil {
		return nil, fmt.Errorf("back up %s: %w", name, err)
	}
	if f.Image != nil && q.Index.Root == "image" {
		q.Index.Image = &backup.Image{Reference: f.Image.Reference, Digest: f.Image.Digest}
	}
	switch {
	case rec == nil || rec.State == record.Exited:
	case rec.State == record.Creating:
		return nil, fmt.Errorf("back up %s: it is just being started; run the backup again", name)
	case r.host.Mode == cgroup.V1:
		return nil, fmt.Errorf("back up %s: this host has no cgroup2 mount, without which a running container can't be frozen; run stead stop %[1]s, the backup, and stead start %[1]s", name)
	default:
		q.Run = &backup.Run{RunDir: r.RunDir, ID: rec.ID(), Cgroup: r.host.Group(rec.ID()).UnifiedDir()}
	}
	return q, nil
}

// addTrees adds the directories with the private files of a container.
func (r *Runtime) addTrees(q *backup.Request, name string, m *spec.Container) error {
	root := &m.Spec.Rootfs
	tree, dir := backup.Tree{Name: backup.RootTree}, r.dir(name)+"/upper"
	switch {
	case root.Image != "":
		q.Index.Root, tree.Overlay = "image", true
	case root.Host != nil:
		q.Index.Root, q.Index.Records = "host", map[string]string{}
		for _, record := range rootfs.EtcRecords {
			if text, err := readText(r.dir(name) + "/" + record); err == nil {
				q.Index.Records[record] = text
			}
		}
	default:
		q.Index.Root, q.Index.RootPath = "path", root.Path
		fd, real, err := hostpath.Open(root.Path, r.Writable.Contains)
		if err != nil {
			return fmt.Errorf("open rootfs.path: %w", err)
		}
		unix.Close(fd)
		dir = real
	}
	if _, err := os.Lstat(dir); errors.Is(err, os.ErrNotExist) {
		return errors.New("it has no files yet, as it was never started")
	}
	q.Index.Trees, q.Dirs = append(q.Index.Trees, tree), append(q.Dirs, dir)
	if volumes := r.dir(name) + "/volumes"; q.Index.Root == "image" {
		if _, err := os.Lstat(volumes); err == nil {
			q.Index.Trees, q.Dirs = append(q.Index.Trees, backup.Tree{Name: backup.ImageVolumes}), append(q.Dirs, volumes)
		}
	}
	return nil
}

// mountsOf lists the mounts of a manifest. None of them is copied.
func mountsOf(m *spec.Container) (all []backup.Mount) {
	for _, target := range slices.Sorted(maps.Keys(m.Spec.Mounts)) {
		mount := m.Spec.Mounts[target]
		kind := "volume"
		if mount.Source != "" {
			kind = "bind"
		} else if mount.Tmpfs != nil {
			kind = "tmpfs"
		}
		all = append(all, backup.Mount{Target: target, Kind: kind, Source: mount.Source, Writable: !mount.ReadOnly})
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
