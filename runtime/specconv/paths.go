package specconv

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"slices"
	"sync/atomic"

	"stead/runtime/files"
	"stead/runtime/hostpath"
	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/runtime/store"
	"stead/spec"

	"golang.org/x/sys/unix"
)

// Paths resolves paths of the host for launches: it follows no link that a
// container may have made, and refuses writable paths that lead to what no container may
// write. Its methods may be called concurrently.
type Paths struct {
	Writable *store.Writable
	Key      files.Key // for the sums of files
	// Sources returns the paths from which containers get files. No container may write them.
	Sources func() []string

	trusted   atomic.Pointer[[]uint32]
	mounts    hostpath.Mounts // of the host
	etc       rootfs.HostEtc
	protected atomic.Pointer[[]hostpath.Protected]
}

// ProtectedPaths returns the paths that no container may write, as stead reads them and then
// acts as root.
func ProtectedPaths(stateDir, runDir, config string, manifests []string) []hostpath.Protected {
	list := []hostpath.Protected{{What: "the state directory", Path: stateDir, State: true}, {What: "the run directory", Path: runDir}}
	if config != "" && config != os.DevNull {
		list = append(list, hostpath.Protected{What: "the configuration", Path: config})
	}
	for _, dir := range manifests {
		list = append(list, hostpath.Protected{What: "the manifest directory", Path: dir})
	}
	return list
}

// SetTrusted sets the users, beside root, whose links to sources of files are followed.
func (p *Paths) SetTrusted(owners []uint32) { p.trusted.Store(&owners) }

func (p *Paths) trusts(uid uint32) bool {
	owners := p.trusted.Load()
	return owners != nil && slices.Contains(*owners, uid)
}

// protectedNow returns all paths that no container may write now.
func (p *Paths) protectedNow() *hostpath.ProtectedPaths {
	list := slices.Clone(*p.protected.Load())
	if p.Sources != nil {
		for _, path := range p.Sources() {
			list = append(list, hostpath.Protected{What: SourceOfFiles, Path: path})
		}
	}
	return hostpath.FindProtected(list...)
}

// SourceOfFiles describes a path from which a container gets files.
const SourceOfFiles = "the source of files"

// SetProtected sets the paths that no container may write.
func (p *Paths) SetProtected(list []hostpath.Protected) { p.protected.Store(&list) }

// NoteEarlier adds to Writable what containers of an earlier version of stead can write,
// which kept no such list, or none of files. roots are the root directories and manifests
// of all containers.
func (p *Paths) NoteEarlier(roots iter.Seq2[string, *spec.Container]) error {
	var found []string
	p.mounts.Refresh()
	renew := !slices.ContainsFunc(p.Writable.List(), func(s string) bool { _, is := hostpath.Inode(s); return is })
	for root, m := range roots {
		var paths []string
		if !m.Spec.Rootfs.ReadOnly {
			paths = append(paths, root)
		}
		for _, mount := range m.Spec.Mounts {
			if mount.Source != "" && !mount.ReadOnly {
				paths = append(paths, mount.Source)
			}
		}
		for _, path := range paths {
			if p.Writable.Contains(path) && !renew {
				continue // as in nearly all cases
			}
			at, err := look(p, path)
			if err != nil { // it may be on a disk that is not mounted yet
				found = append(found, path)
			} else {
				found = append(append(found, p.mounts.Names(at.real)...), at.identity)
			}
		}
	}
	return p.Writable.Add(found)
}

// place is the file or directory that a path of the host leads to.
type place struct {
	real       string // without links
	dir        bool
	identity   string
	notMounted error // it is no mount point
}

// look is a variable for test builds.
var look = (*Paths).look

// look opens a path of the host without following what a container may have linked there.
func (p *Paths) look(name string) (place, error) {
	fd, real, err := hostpath.Open(name, p.Writable.Contains)
	if err != nil {
		return place{}, err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return place{}, err
	}
	return place{real, st.Mode&unix.S_IFMT == unix.S_IFDIR, hostpath.Identity(fd), launch.CheckMountPoint(fd, name)}, nil
}

// Resolve replaces root and sources of mounts by their paths without links. The launch
// follows no links, as by then another container may run that can make some there. writable are the directories and files that this container will be able to
// write, by all their paths. private says that the root is in the container's own directory.
//
// What it may not write is refused here, by what was opened and not by what the path
// was when the manifest was read, which whoever can make links may have changed since.
// Nothing of that can change before the launch opens it again, by its path without
// links: only a rename could put something else there, and neither a container, in
// whose mounts no such place lies, nor a user, who may not write where such a place
// lies, can rename one to there.
func (p *Paths) Resolve(root *launch.Root, private bool, mounts []launch.Mount) (writable []string, err error) {
	var protected *hostpath.ProtectedPaths // made on demand: most containers write to their private root only
	lookAt := func(name *string, readOnly bool) (place, error) {
		at, err := look(p, *name)
		if err != nil {
			return at, err
		}
		if *name = at.real; readOnly || private && name == &root.Path {
			return at, nil
		}
		if protected == nil {
			protected = p.protectedNow()
			p.mounts.Refresh()
		}
		names := p.mounts.Names(at.real)
		if why := protected.WriteRefusal(names); why != "" {
			return at, errors.New(why)
		}
		if !p.Writable.Contains(at.real) || !p.Writable.Has(at.identity) {
			writable = append(append(writable, names...), at.identity)
		}
		return at, nil
	}
	if !private || !rootfs.IsView(root.Path) {
		var at place
		if at, err = lookAt(&root.Path, root.ReadOnly); err == nil && !at.dir {
			err = unix.ENOTDIR
		}
	}
	if err != nil {
		return nil, &Error{Where: launch.AtRoot, Message: fmt.Sprintf("rootfs.path %s: %v", root.Path, Reason(err))}
	}
	if root.Usr != "" {
		if _, err := lookAt(&root.Usr, true); err != nil {
			return nil, &Error{Where: launch.AtRoot, Message: fmt.Sprintf("open %s: %v", root.Usr, Reason(err))}
		}
	}
	for i := range mounts {
		m := &mounts[i]
		if m.Source == "" {
			continue
		}
		if m.Create != nil {
			if err := makeSource(m.Source, *m.Create, p.Writable.Contains); err != nil {
				return nil, err
			}
		}
		at, err := lookAt(&m.Source, m.ReadOnly)
		if err != nil {
			return nil, &Error{Where: launch.AtSource, Message: fmt.Sprintf("open mount source %s: %v", m.Source, Reason(err))}
		}
		if m.MountPoint && at.notMounted != nil {
			return nil, &Error{Where: launch.AtSource, Message: at.notMounted.Error()}
		}
	}
	return writable, nil
}
