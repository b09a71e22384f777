package unpack

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// Whiteouts in the stream of a layer (image-spec, layer.md). They hide what lower layers hold,
// never what the same layer holds, wherever in the stream they stand: so they are made at the
// end.
const (
	whiteoutPrefix = ".wh."
	metaPrefix     = ".wh..wh."
	opaqueMarker   = ".wh..wh..opq"
)

// opaqueXattr makes overlay hide the lower layers' part of a directory.
const opaqueXattr = "trusted.overlay.opaque"

// whiteout notes a whiteout.
func (l *Layer) whiteout(name string) error {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	if strings.Contains("/"+dir, "/"+metaPrefix) { // what AUFS kept for itself
		return nil
	}
	hidden, ok := strings.CutPrefix(base, whiteoutPrefix)
	switch {
	case strings.Contains("/"+dir, "/"+whiteoutPrefix), !ok, hidden == "", hidden == ".", hidden == "..":
		return errors.New("not a whiteout")
	case base == opaqueMarker:
		l.opaque[dir] = l.step
		return l.remember(dir)
	case strings.HasPrefix(base, metaPrefix):
		return nil
	}
	l.deleted[path.Join(dir, hidden)] = true
	return l.remember(name)
}

// hide makes the whiteouts, the upper ones first. A whiteout of what the lower layers do not
// have is left out: in a directory that overlay does not merge it would be listed.
func (l *Layer) hide(lowers []int) error {
	opaque := l.opaque
	l.opaque = map[string]int{}
	names := slices.AppendSeq(slices.Collect(maps.Keys(l.deleted)), maps.Keys(opaque))
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if l.isCovered(name) {
			continue
		}
		var err error
		if l.deleted[name] {
			err = l.hideName(lowers, name)
		}
		if opaque[name] > 0 && err == nil && l.opaque[name] == 0 && !l.hidden[name] {
			err = l.hideDirectory(lowers, name)
		}
		if err != nil {
			return fmt.Errorf("delete %.200q: %w", name, err)
		}
	}
	return nil
}

// isCovered reports whether nothing of the lower layers shows at a path, as this layer has
// hidden a directory above it.
func (l *Layer) isCovered(name string) bool {
	for above := path.Dir(name); name != "" && above != "."; above = path.Dir(above) {
		if l.opaque[above] > 0 || l.hidden[above] {
			return true
		}
	}
	return name != "" && l.opaque[""] > 0
}

// stat returns what the layer has at a path.
func (l *Layer) stat(name string, st *unix.Stat_t) error {
	if name == "" {
		return unix.Fstat(l.root, st)
	}
	parent, err := l.parentOf(name, false)
	if err != nil {
		return err
	}
	return unix.Fstatat(parent, path.Base(name), st, unix.AT_SYMLINK_NOFOLLOW)
}

// isWhiteout reports whether a file is a whiteout of overlay.
func isWhiteout(st *unix.Stat_t) bool {
	return st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0
}

// hideName hides a path of the lower layers. If this layer has a directory there, that is a new
// one.
func (l *Layer) hideName(lowers []int, name string) error {
	var st unix.Stat_t
	switch err := l.stat(name, &st); {
	case err == nil && st.Mode&unix.S_IFMT == unix.S_IFDIR:
		delete(l.implied, name)
		return l.hideContent(name)
	case err != unix.ENOENT:
		return err
	}
	at, _, err := find(lowers, name)
	if err == unix.ENOENT || err == unix.ENOTDIR {
		return nil
	}
	if err != nil {
		return err
	}
	at.Close()
	parent, err := l.parentOf(name, true)
	if err != nil {
		return err
	}
	l.hidden[name] = true
	return unix.Mknodat(parent, path.Base(name), unix.S_IFCHR, 0)
}

// hideDirectory hides what the lower layers have in a directory.
func (l *Layer) hideDirectory(lowers []int, name string) error {
	var st unix.Stat_t
	err := l.stat(name, &st)
	if err == nil && st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return nil
	}
	if err == unix.ENOENT {
		at, below, err := find(lowers, name)
		if err == unix.ENOENT || err == unix.ENOTDIR {
			return nil
		}
		if err != nil {
			return err
		}
		at.Close()
		if below.Mode&unix.S_IFMT != unix.S_IFDIR {
			return nil
		}
		fd, err := l.imply(name)
		if err != nil {
			return err
		}
		unix.Close(fd)
	} else if err != nil {
		return err
	}
	return l.hideContent(name)
}

// hideContent makes a directory of this layer opaque.
func (l *Layer) hideContent(name string) error {
	fd, err := l.openDir(name, unix.O_RDONLY)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	l.opaque[name] = l.step
	if err := unix.Fsetxattr(fd, opaqueXattr, []byte("y"), 0); err != nil {
		return fmt.Errorf("set extended attribute %s: %w", opaqueXattr, err)
	}
	return nil
}

// OpaqueRoot reports whether the layer hides all layers below it. Overlay ignores the
// attribute on the root of a layer, so the image must leave them out.
func (l *Layer) OpaqueRoot() bool { return l.opaque[""] > 0 }
