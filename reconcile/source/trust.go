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

	"stead/reconcile/source/disk"

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

// refusedFor returns a Refused, or nil for "".
func refusedFor(why string) error {
	if why == "" {
		return nil
	}
	return &Refused{why}
}

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
func (t *Trust) parentsFault(steps []disk.Step) string {
	if t == nil {
		return ""
	}
	for _, step := range steps {
		if step.Missing {
			continue
		}
		st := step.Stat
		if st.Mode&unix.S_ISVTX != 0 && step.Entry != nil && t.isTrusted(step.Entry.Uid) {
			st.Mode &^= 0o022
		}
		if why := t.fault(&st, step.Dir); why != "" {
			return why
		}
	}
	return ""
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
	if why := cmp.Or(t.parentsFault(disk.Steps(abs)), t.fault(&st, abs)); why != "" {
		return errors.New(why)
	}
	return nil
}
