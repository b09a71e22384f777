package specconv

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

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

// Env reads the variables of a manifest's files, as NAME=VALUE in the order in which a later
// one counts, and the sums of these files by what they are for.
func (p *Paths) Env(m *spec.Container) (vars []string, sums map[string]string, err error) {
	sums = map[string]string{}
	for _, e := range m.EnvSources() {
		fail := func(err error) error { return &Error{AtFile, fmt.Sprintf("%s: %v", e.Target(), err)} }
		c, err := p.readSource(e.Source)
		if err != nil {
			return nil, nil, fail(fmt.Errorf("read %s: %w", e.Source, err))
		}
		if e.Kind == spec.ForSecret {
			value, err := c.Secret()
			if err != nil {
				return nil, nil, fail(fmt.Errorf("%s: %w", e.Source, err))
			}
			vars = append(vars, e.Name+"="+value)
		} else {
			more, wrong, err := c.Env(e.Source)
			if err == nil && len(wrong) > 0 {
				err = wrong[0]
			}
			if err != nil {
				return nil, nil, fail(err)
			}
			vars = append(vars, more...)
		}
		sums[e.Target()] = c.Sum(p.Key, false)
	}
	return vars, sums, nil
}

// WithEnv returns a process with variables from files, over which those of the manifest's env
// win.
func WithEnv(p launch.Process, env map[string]spec.Text, vars []string) launch.Process {
	var more []string
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		if _, given := env[name]; !given {
			more = append(more, v)
		}
	}
	if len(more) == 0 || len(p.Argv) == 0 {
		return p
	}
	return p.With(p.Argv, more, "")
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
	isFile := func(st files.State) bool { return st.Index != files.NoFile }
	if !slices.ContainsFunc(slices.Collect(maps.Values(now)), isFile) {
		return nil
	}
	all := []launch.Mount{{Target: spec.FilesDir, Source: s.DataDir(id), ReadOnly: true, NoIDMap: true}}
	for target, st := range now {
		if !isFile(st) {
			continue
		}
		m := launch.Mount{Target: target, Source: s.LinkPath(id, st), ReadOnly: true, NoIDMap: true, Symlink: true}
		if st.Dir {
			m.Source, m.Symlink = s.DirPath(id, st), false
		}
		all = append(all, m)
	}
	return all
}
