package rootfs

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Identity holds the ids and the home directory of a process in a container.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// maxPasswd is the maximum size of a root's passwd or group, bytes.
const maxPasswd = 4 << 20

// LookUp finds a user ("name|id[:group|id]") and supplementary groups in the root's own
// /etc/passwd and /etc/group. Only names need an entry there. A number is always an id, even
// if the files have it as a name.
func LookUp(root, who string, groups []string) (Identity, error) {
	passwd, err := readBeneath(root, "etc/passwd")
	if err != nil {
		return Identity{}, err
	}
	group, err := readBeneath(root, "etc/group")
	if err != nil {
		return Identity{}, err
	}
	return lookUp(passwd, group, who, groups)
}

func lookUp(passwd, group []byte, who string, groups []string) (Identity, error) {
	name, groupName, grouped := strings.Cut(who, ":")
	user, id, err := findUser(passwd, name)
	if err != nil {
		return Identity{}, err
	}
	if grouped {
		if id.GID, err = findGroup(group, groupName); err != nil {
			return Identity{}, err
		}
	} else if user != "" {
		id.Groups = memberships(group, user, id.GID)
	}
	for _, g := range groups {
		gid, err := findGroup(group, g)
		if err != nil {
			return Identity{}, err
		}
		id.Groups = append(id.Groups, gid)
	}
	return id, nil
}

// entries returns the lines of a passwd or group with at least n fields and a number in field
// id. It skips others: libraries that read a broken number as 0 turn a broken line into
// a root user.
func entries(file []byte, n, id int) iter.Seq[[]string] {
	return func(yield func([]string) bool) {
		for line := range strings.Lines(string(file)) {
			fields := strings.Split(strings.TrimRight(line, "\r\n"), ":")
			if len(fields) < n {
				continue
			}
			if _, err := strconv.ParseUint(fields[id], 10, 32); err == nil && !yield(fields) {
				return
			}
		}
	}
}

// parseID parses an id and reports whether it is one that a container can have.
func parseID(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 16)
	return uint32(n), err == nil
}

// idsBeforeNames reports that a number is an id, even if a user has it as a name. Test builds
// replace it.
var idsBeforeNames = func() bool { return true }

// findUser finds a user in passwd. name is "" for an id without an entry.
func findUser(passwd []byte, who string) (name string, id Identity, err error) {
	id.Home = "/"
	number, isNumber := parseID(who)
	id.UID = number
	for f := range entries(passwd, 4, 2) {
		uid, uidInside := parseID(f[2])
		if isNumber && idsBeforeNames() {
			if !uidInside || uid != number {
				continue
			}
		} else if f[0] != who {
			continue
		}
		gid, gidInside := parseID(f[3])
		if !uidInside || !gidInside {
			return "", id, fmt.Errorf("user %s has id %s:%s in the root's /etc/passwd, want ids of 0 to 65535", who, f[2], f[3])
		}
		id.UID, id.GID = uid, gid
		if len(f) > 5 && f[5] != "" {
			id.Home = f[5]
		}
		return f[0], id, nil
	}
	if !isNumber {
		err = fmt.Errorf("user %s is not in the root's /etc/passwd", who)
	}
	return "", id, err
}

func findGroup(group []byte, name string) (uint32, error) {
	if gid, ok := parseID(name); ok {
		return gid, nil
	}
	for f := range entries(group, 3, 2) {
		if gid, ok := parseID(f[2]); ok && f[0] == name {
			return gid, nil
		}
	}
	return 0, fmt.Errorf("group %s is not in the root's /etc/group", name)
}

// memberships returns the groups that list the user, as initgroups(3) does.
func memberships(group []byte, name string, primary uint32) (gids []uint32) {
	for f := range entries(group, 4, 2) {
		if gid, ok := parseID(f[2]); ok && gid != primary && slices.Contains(strings.Split(f[3], ","), name) {
			gids = append(gids, gid)
		}
	}
	return gids
}

// readBeneath reads a small regular file below a root; a missing one is empty.
func readBeneath(root, name string) ([]byte, error) {
	dir, err := unix.Open(root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root, Err: err}
	}
	defer unix.Close(dir)
	// O_NONBLOCK, so that a FIFO in its place can't block the open.
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{
		Flags:   unix.O_RDONLY | unix.O_NONBLOCK | unix.O_NOCTTY | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	if err != nil {
		return nil, &os.PathError{Op: "open", Path: root + "/" + name, Err: err}
	}
	f := os.NewFile(uintptr(fd), name)
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%s/%s is no regular file", root, name)
	}
	b, err := io.ReadAll(io.LimitReader(f, maxPasswd+1))
	if err == nil && len(b) > maxPasswd {
		err = fmt.Errorf("%s/%s is larger than %d bytes", root, name, maxPasswd)
	}
	return b, err
}
