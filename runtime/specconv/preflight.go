package specconv

import (
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"stead/runtime/launch"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Preflight checks whether m can start, as far as possible without starting it: root, user,
// groups, mounts and command. It runs before the old container is stopped for m, so that a
// mistake in a manifest stops nothing, and changes nothing of the root. The launch trusts none of it: names in a root may
// change at any time.
func Preflight(m *spec.Container, root string, p *Paths) error {
	c, _, err := build(m, root, p)
	if err != nil {
		return err
	}
	entries, err := p.Files(m, c.Root.Path)
	if err != nil {
		return err
	}
	vars, _, err := p.Env(m)
	if err != nil {
		return err
	}
	c.Process = WithEnv(c.Process, m.Spec.Env, vars)
	for target, w := range m.Spec.Mounts { // what a volume has is not looked at
		if w.Volume != "" {
			c.Mounts = append(c.Mounts, launch.Mount{Target: target})
		}
	}
	for _, e := range entries { // what is in them is in memory by then
		c.Mounts = append(c.Mounts, launch.Mount{Target: e.Path})
	}
	if err := checkTargets(c.Root.Path, c.Mounts); err != nil {
		return err
	}
	v := view{root: c.Root.Path, mounts: map[string]string{}}
	if c.Root.Usr != "" {
		v.mounts["/usr"] = c.Root.Usr
	}
	for _, w := range c.Mounts {
		v.mounts[w.Target] = w.Source
	}
	return v.checkCommand(c.Process)
}

// checkTargets checks that no target of a mount leaves the root.
func checkTargets(root string, mounts []launch.Mount) error {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &Error{launch.AtRoot, fmt.Sprintf("rootfs.path %s: %v", root, err)}
	}
	defer unix.Close(dir)
	for _, m := range mounts {
		fd, err := unix.Openat2(dir, strings.TrimPrefix(path.Clean(m.Target), "/"), &unix.OpenHow{
			Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
		})
		if err == nil {
			unix.Close(fd)
		}
		if errors.Is(err, unix.EXDEV) {
			return &Error{launch.AtTarget, launch.TargetError(m.Target, unix.EXDEV).Error()}
		}
	}
	return nil
}

// view is the file tree of a container before its start: its root with its mounts over it.
type view struct {
	root   string
	mounts map[string]string // target → directory or file of the host, "" is a tmpfs
}

// errHidden is the error for a path in a tmpfs, whose files can't be known.
var errHidden = errors.New("in a tmpfs")

// onHost returns the path on the host of a path of the container. It follows links as the
// container would.
func (v view) onHost(name string) (string, error) {
	todo, at := strings.Split(path.Clean("/"+name), "/")[1:], "/"
	for links := 0; len(todo) > 0; {
		next := path.Join(at, todo[0])
		todo = todo[1:]
		host, err := v.place(next)
		if err != nil {
			return "", err
		}
		st, err := os.Lstat(host)
		if err != nil {
			return "", Reason(err)
		}
		if st.Mode()&os.ModeSymlink == 0 {
			at = next
			continue
		}
		if links++; links > 40 {
			return "", unix.ELOOP
		}
		target, err := os.Readlink(host)
		if err != nil {
			return "", Reason(err)
		}
		if path.IsAbs(target) {
			at = "/"
		}
		todo = append(strings.Split(strings.Trim(path.Clean(target), "/"), "/"), todo...)
	}
	return v.place(at)
}

// place returns the path on the host of a path without links: it is below the nearest mount.
func (v view) place(at string) (string, error) {
	for above := at; ; above = path.Dir(above) {
		if source, ok := v.mounts[above]; ok {
			if source == "" {
				return "", errHidden
			}
			return filepath.Join(source, strings.TrimPrefix(at, above)), nil
		}
		if above == "/" {
			return filepath.Join(v.root, at), nil
		}
	}
}

// checkCommand looks for the command as execvp(3) will.
func (v view) checkCommand(p launch.Process) error {
	failed := error(unix.ENOENT)
	for _, c := range p.Paths {
		if !path.IsAbs(c) {
			c = path.Join(p.WorkingDir, c)
		}
		host, err := v.onHost(c)
		if errors.Is(err, errHidden) {
			return nil
		}
		if err != nil {
			continue
		}
		st, err := os.Stat(host)
		if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return nil
		}
		failed = unix.EACCES
	}
	return &Error{launch.AtCommand, launch.CommandError(p.Argv[0], failed.(unix.Errno)).Error()}
}
