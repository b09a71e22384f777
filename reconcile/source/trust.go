package source

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Trust says whose manifests are used. A user who can write a manifest, or a directory on
// the way to it, can run commands as root on this host. So, as sshd does with
// authorized_keys, a path is refused if anybody but a trusted owner can write it. A group
// with write access is refused, whatever its current members.
type Trust struct {
	// Owners are the trusted users besides root and the user of this process.
	Owners []uint32
}

// Refused is the error of a directory that others can write.
type Refused struct{ why string }

func (e *Refused) Error() string { return e.why }

// isTrusted reports whether a user is trusted.
func (t *Trust) isTrusted(uid uint32) bool {
	return uid == 0 || int(uid) == os.Geteuid() || slices.Contains(t.Owners, uid)
}

// fault returns why a file or directory is not trusted, and what to do about it; "" if it
// is trusted. A nil Trust trusts everybody.
func (t *Trust) fault(st *unix.Stat_t, path string) string {
	switch {
	case t == nil:
	case !t.isTrusted(st.Uid):
		return fmt.Sprintf("%s belongs to %s, who is not trusted: chown root %s, or add the owner to trustedOwners", path, userName(st.Uid), path)
	case st.Mode&0o022 != 0:
		return fmt.Sprintf("%s can be written by others than its owner (mode %04o): chmod go-w %s", path, st.Mode&0o7777, path)
	}
	return ""
}

func userName(uid uint32) string {
	id := strconv.Itoa(int(uid))
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return "user " + id
}

// parentsFault returns why a directory on the way to a path is not trusted, including the
// directories of links, but not the path itself. In a directory with the sticky bit,
// such as /tmp, nobody else can replace what a trusted owner has there.
func (t *Trust) parentsFault(path string) string {
	if t == nil {
		return ""
	}
	why := ""
	walkPath(path, func(dir, name string, _ bool) {
		var st, entry unix.Stat_t
		if why != "" || unix.Stat(dir, &st) != nil {
			return
		}
		sticky := st.Mode&unix.S_ISVTX != 0 && unix.Lstat(filepath.Join(dir, name), &entry) == nil && t.isTrusted(entry.Uid)
		if sticky {
			st.Mode &^= 0o022
		}
		why = t.fault(&st, dir)
	})
	return why
}

// Check returns an error if a file, or a directory on the way to it, is not trusted. The
// error says what to do.
func (t *Trust) Check(path string) error {
	abs, err := filepath.Abs(path)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Stat(abs, &st); err != nil {
		return &os.PathError{Op: "stat", Path: path, Err: err}
	}
	if why := cmp.Or(t.parentsFault(abs), t.fault(&st, abs)); why != "" {
		return errors.New(why)
	}
	return nil
}

// walkPath calls visit for each directory on the way to a path and the name that is
// looked up in it, following links as the kernel does; last says that nothing
// follows that name, unless it is a link. It ends where a name is missing.
func walkPath(path string, visit func(dir, name string, last bool)) {
	at := "/"
	rest := pathParts(path)
	for links := 0; len(rest) > 0 && links <= 40; { // as many as the kernel follows
		name := rest[0]
		if name == ".." { // of where a link before it led, not of that link
			at, rest = filepath.Dir(at), rest[1:]
			continue
		}
		next := filepath.Join(at, name)
		visit(at, name, len(rest) == 1)
		target, err := os.Readlink(next)
		if err != nil {
			if _, err := os.Lstat(next); err != nil {
				return
			}
			at, rest = next, rest[1:]
			continue
		}
		if filepath.IsAbs(target) {
			at = "/"
		}
		links++
		rest = append(pathParts(target), rest[1:]...)
	}
}

// pathParts returns the parts of a path.
func pathParts(path string) []string {
	return slices.DeleteFunc(strings.Split(path, "/"), func(name string) bool { return name == "" || name == "." })
}
