package specconv

import (
	"errors"
	"fmt"
	"path"

	"stead/runtime/files"
	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// AtFile is the place of a failure in spec.files. Package launch has the other places.
const AtFile launch.Where = "file"

// Files reads the content of a manifest's files, and looks up their owners in root.
func (p *Paths) Files(m *spec.Container, root string) (all []files.Entry, err error) {
	for target, f := range m.Spec.Files {
		fail := func(err error) error { return &Error{AtFile, fmt.Sprintf("files[%s]: %v", target, err)} }
		e := files.Entry{Path: target, Mode: modeOf(f.Mode, 0), HasMode: f.Mode != ""}
		if f.Content != nil {
			e.Content = files.Text(*f.Content)
		} else if e.Content, err = p.readSource(f.Source); err != nil {
			return nil, fail(fmt.Errorf("read %s: %w", f.Source, err))
		}
		e.Sum = e.Content.Sum(p.Key, !e.HasMode)
		owner := f.Owner
		if owner == "" {
			owner = m.Spec.User
		}
		id, err := rootfs.LookUp(root, string(owner), nil)
		if err != nil {
			return nil, &Error{AtUser, fmt.Sprintf("files[%s].owner: %v", target, err)}
		}
		e.UID, e.GID = id.UID, id.GID
		all = append(all, e)
	}
	return all, nil
}

// readSource reads a file or directory of the host for a container. What a container can
// write, or ever could, is no source: it would choose the content of another's files, or lead
// to a file of the host.
func (p *Paths) readSource(name string) (*files.Content, error) {
	fd, real, err := hostpath.OpenFor(name, p.Writable.Contains, p.trusts)
	if err != nil {
		return nil, Reason(err)
	}
	defer unix.Close(fd)
	p.mounts.Refresh()
	for _, at := range p.mounts.Names(real) {
		for dir := at; ; dir = path.Dir(dir) {
			if p.Writable.Contains(dir) {
				return nil, fmt.Errorf("a container can write to %s, or once could", dir)
			}
			if dir == "/" {
				break
			}
		}
	}
	if p.Writable.Has(hostpath.Identity(fd)) {
		return nil, errors.New("a container can write to it, or once could")
	}
	c, err := files.Read(fd)
	if err != nil {
		return nil, Reason(err)
	}
	return c, nil
}

// FileMounts returns the mounts that show a run the content of its files.
func FileMounts(s *files.Store, id string, now files.States) []launch.Mount {
	if len(now) == 0 {
		return nil
	}
	all := []launch.Mount{{Target: spec.FilesDir, Source: s.DataDir(id), ReadOnly: true, NoIDMap: true}}
	for target, st := range now {
		m := launch.Mount{Target: target, Source: s.LinkPath(id, st), ReadOnly: true, NoIDMap: true, Symlink: true}
		if st.Dir {
			m.Source, m.Symlink = s.DirPath(id, st), false
		}
		all = append(all, m)
	}
	return all
}
