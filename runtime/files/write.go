package files

import (
	"errors"
	"os"
	"path"
	"strconv"
	"strings"
	"time"
)

// run writes the content of one run. Its names are relative to the run's directory.
type run struct {
	*os.Root
	base uint32
}

// openRun opens the directory of a run, and makes it if it is missing.
func (s *Store) openRun(id string, base uint32) (*run, error) {
	dir, err := s.open()
	if err != nil {
		return nil, err
	}
	defer dir.Close()
	at := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + id
	if err := os.Mkdir(at, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return nil, err
	}
	root, err := os.OpenRoot(at)
	if err != nil {
		return nil, err
	}
	w := &run{root, base}
	for _, name := range []string{"data", "links"} {
		if err == nil {
			err = w.mkdir(name, 0o755, 0, 0)
		}
	}
	if err != nil {
		root.Close()
		return nil, err
	}
	return w, nil
}

// mkdir makes a directory unless it is there. Its owner and mode are right before it has its
// name.
func (w *run) mkdir(name string, mode, uid, gid uint32) error {
	if _, err := w.Lstat(name); err == nil {
		return nil
	}
	unfinished := name + ".new"
	err := w.RemoveAll(unfinished) // left by a write that was interrupted
	if err == nil {
		err = w.Mkdir(unfinished, 0o700)
	}
	if err == nil {
		err = w.own(unfinished, mode, uid, gid)
	}
	if err == nil {
		err = w.Rename(unfinished, name)
	}
	return err
}

// own sets the owner first: a change of the owner may take bits of the mode away.
func (w *run) own(name string, mode, uid, gid uint32) error {
	return errors.Join(w.Lchown(name, int(w.base+uid), int(w.base+gid)), w.Chmod(name, os.FileMode(mode)))
}

// file replaces one file.
func (w *run) file(e *Entry, name string, i *Item) error {
	unfinished := name + ".new"
	if err := w.RemoveAll(unfinished); err != nil {
		return err
	}
	f, err := w.OpenFile(unfinished, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0)
	if err != nil {
		return err
	}
	_, err = f.Write(i.Data)
	err = errors.Join(err, f.Close())
	if err == nil {
		err = w.own(unfinished, e.modeOf(i), e.UID, e.GID)
	}
	if err == nil {
		err = w.Rename(unfinished, name)
	}
	if err != nil {
		return errors.Join(err, w.RemoveAll(unfinished))
	}
	return nil
}

// modeOf returns the mode of an item inside: nothing can be written there.
func (e *Entry) modeOf(i *Item) uint32 {
	mode := i.Mode
	if e.HasMode {
		mode = e.Mode
		if i.Dir {
			mode |= mode & 0o444 >> 2 // who may read it may enter it
		}
	}
	return mode &^ 0o222
}

// link makes a symbolic link unless it is there.
func (w *run) link(target, name string) error {
	if now, err := w.Readlink(name); err == nil && now == target {
		return nil
	}
	if err := w.RemoveAll(name); err != nil {
		return err
	}
	return w.Symlink(target, name)
}

// directory writes a new version of a directory beside the old one and swaps them. Names that
// are gone go last.
func (w *run) directory(e *Entry, st *State) error {
	top := "data/" + strconv.Itoa(st.Index)
	items := e.Content.Items
	mode := e.modeOf(&items[0])
	if err := errors.Join(w.mkdir(top, mode, e.UID, e.GID), w.own(top, mode, e.UID, e.GID)); err != nil {
		return err
	}
	for ; ; st.Version++ { // a write that was interrupted may have left one that is in use
		if _, err := w.Lstat(path.Join(top, ".."+strconv.Itoa(st.Version))); err != nil {
			break
		}
	}
	version := ".." + strconv.Itoa(st.Version)
	at := path.Join(top, version)
	for i := range items {
		name := path.Join(at, items[i].Name)
		err := error(nil)
		if items[i].Dir {
			if err = w.Mkdir(name, 0o700); err == nil {
				err = w.own(name, e.modeOf(&items[i]), e.UID, e.GID)
			}
		} else {
			err = w.file(e, name, &items[i])
		}
		if err != nil {
			return err
		}
	}
	if err := errors.Join(w.RemoveAll(top+"/..new"), w.Symlink(version, top+"/..new")); err != nil {
		return err
	}
	if err := w.Rename(top+"/..new", top+"/..data"); err != nil {
		return err
	}
	names := map[string]bool{}
	for i := range items {
		if name := items[i].Name; name != "" && !strings.Contains(name, "/") {
			names[name] = true
			if err := w.link("..data/"+name, path.Join(top, name)); err != nil {
				return err
			}
		}
	}
	size := 1
	for i := range items {
		size += len(items[i].Data)
	}
	isGone := func(name string) bool { return !strings.HasPrefix(name, "..") && !names[name] }
	return errors.Join(w.removeEntries(top, isGone), w.removeVersions(top, st.Version, maxOld/size))
}

const (
	// keepOld is how long an old version of a directory stays: whoever has read where ..data
	// leads still finds it.
	keepOld = 5 * time.Second
	// maxOld limits the old versions of a directory that changes all the time, in bytes.
	maxOld = 64 << 20
)

// removeVersions removes the versions of a directory before the current one, except for young
// ones among the last few and the one just before.
func (w *run) removeVersions(top string, current, few int) error {
	return w.removeEntries(top, func(name string) bool {
		n, err := strconv.Atoi(strings.TrimPrefix(name, ".."))
		if err != nil || n >= current {
			return false
		}
		info, err := w.Lstat(path.Join(top, name))
		old := err == nil && time.Since(info.ModTime()) > keepOld
		return n < current-max(few, 1) || old
	})
}

// removeEntries removes the entries of a directory with such a name.
func (w *run) removeEntries(dir string, such func(name string) bool) error {
	d, err := w.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	all, err := d.Readdirnames(-1)
	for _, name := range all {
		if such(name) {
			err = errors.Join(err, w.RemoveAll(path.Join(dir, name)))
		}
	}
	return err
}
