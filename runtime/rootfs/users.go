package rootfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"stead/runtime/weak"

	"github.com/moby/sys/user"
	"golang.org/x/sys/unix"
)

// Identity is who a process in a container is.
type Identity struct {
	UID, GID uint32
	Groups   []uint32
	Home     string
}

// most that is read of a root's passwd or group.
const maxPasswd = 4 << 20

// LookUp finds a user ("name|id[:group|id]") and supplementary groups in the
// root's own /etc/passwd and /etc/group. Only names need an entry there. What
// is all digits is an id, whatever name the files give to it.
func LookUp(root, who string, groups []string) (Identity, error) {
	passwd, err := readBeneath(root, "etc/passwd")
	if err != nil {
		return Identity{}, err
	}
	group, err := readBeneath(root, "etc/group")
	if err != nil {
		return Identity{}, err
	}
	name, groupName, grouped := strings.Cut(who, ":")
	id := Identity{Home: "/"}
	u, found, err := findUser(passwd, name)
	if err != nil {
		return Identity{}, err
	}
	id.UID = uint32(u.Uid)
	if found {
		id.GID, id.Home = uint32(u.Gid), u.Home
	}
	if grouped {
		if id.GID, err = findGroup(group, groupName); err != nil {
			return Identity{}, err
		}
	} else if found {
		id.Groups = memberships(group, u.Name, id.GID)
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

func findUser(passwd []byte, name string) (user.User, bool, error) {
	number, notNumber := strconv.ParseUint(name, 10, 16)
	all, err := user.ParsePasswdFilter(bytes.NewReader(passwd), func(u user.User) bool {
		if notNumber == nil && !weak.Is("names before numbers") { // CVE-2016-3697
			return u.Uid == int(number)
		}
		return u.Name == name
	})
	if err != nil {
		return user.User{}, false, fmt.Errorf("read the root's /etc/passwd: %w", err)
	}
	switch {
	case len(all) > 0 && all[0].Uid >= 0 && all[0].Uid < 1<<16 && all[0].Gid >= 0 && all[0].Gid < 1<<16:
		return all[0], true, nil
	case len(all) > 0:
		return user.User{}, false, fmt.Errorf("user %s has id %d:%d in the root's /etc/passwd, want ids of 0 to 65535", name, all[0].Uid, all[0].Gid)
	case notNumber == nil:
		return user.User{Uid: int(number)}, false, nil
	}
	return user.User{}, false, fmt.Errorf("user %s is not in the root's /etc/passwd", name)
}

func findGroup(group []byte, name string) (uint32, error) {
	if n, err := strconv.ParseUint(name, 10, 16); err == nil {
		return uint32(n), nil
	}
	all, err := user.ParseGroupFilter(bytes.NewReader(group), func(g user.Group) bool { return g.Name == name })
	if err != nil {
		return 0, fmt.Errorf("read the root's /etc/group: %w", err)
	}
	if len(all) == 0 || all[0].Gid < 0 || all[0].Gid >= 1<<16 {
		return 0, fmt.Errorf("group %s is not in the root's /etc/group", name)
	}
	return uint32(all[0].Gid), nil
}

// memberships are the groups that list the user, as initgroups(3) finds them.
func memberships(group []byte, name string, primary uint32) (gids []uint32) {
	all, _ := user.ParseGroupFilter(bytes.NewReader(group), func(g user.Group) bool {
		for _, m := range g.List {
			if m == name {
				return true
			}
		}
		return false
	})
	for _, g := range all {
		if g.Gid >= 0 && g.Gid < 1<<16 && uint32(g.Gid) != primary {
			gids = append(gids, uint32(g.Gid))
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
	// NONBLOCK: a FIFO in its place must not hold us.
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
