package launch

import (
	"cmp"
	"fmt"
	"path"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// devices lists the nodes of every container's /dev.
var devices = []struct {
	name         string
	major, minor uint32
}{{"null", 1, 3}, {"zero", 1, 5}, {"full", 1, 7}, {"random", 1, 8}, {"urandom", 1, 9}, {"tty", 5, 0}}

// node is one device node of a container. copied is the path of the original in the nursery,
// for containers with a user namespace.
type node struct {
	Device
	copied string
}

// nodesFor returns all nodes of a container whose root is at root in the nursery.
func nodesFor(c *Config, root string) []node {
	all := make([]node, 0, len(devices)+len(c.Devices))
	for _, d := range devices {
		all = append(all, node{Device{Name: d.name, Mode: unix.S_IFCHR | 0o666, Dev: unix.Mkdev(d.major, d.minor)}, "/nodes/" + d.name})
	}
	for i, d := range c.Devices {
		all = append(all, node{d, devicesDir(root) + "/" + strconv.Itoa(i)})
	}
	return all
}

// Test builds replace listNodes and makesOwnNodes with the flawed ways of other runtimes.
var (
	listNodes     = nodesFor
	makesOwnNodes = func(c *Config) bool { return c.IDBase == 0 } // the child makes its nodes itself
)

// devicesDir returns the directory in the nursery for the nodes of Config.Devices.
func devicesDir(root string) string { return root + ".dev" }

// dev appends the calls that make /dev. In a user namespace mknod(2) fails with EPERM, so the
// nodes are bind mounts of nodes in the nursery: the host's own for the standard devices, new
// ones for Config.Devices. Without a user namespace all nodes are new: the container's
// root could chmod the host's own for everybody.
func (p *program) dev(tree *int32, c *Config, root string) {
	dev := p.slot()
	p.filesystem("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, []string{"mode", "755", "size", "64k"}, dev)
	nodes := listNodes(c, root)
	for _, dir := range dirsOf(nodes) {
		p.do("make /dev/"+dir, unix.SYS_MKDIRAT, 0, p.cString(dir), 0o755).from[0] = dev
	}
	for _, l := range [][2]string{{"ptmx", "pts/ptmx"}, {"fd", "/proc/self/fd"}, {"stdin", "/proc/self/fd/0"}, {"stdout", "/proc/self/fd/1"}, {"stderr", "/proc/self/fd/2"}} {
		p.do("link /dev/"+l[0], unix.SYS_SYMLINKAT, p.cString(l[1]), 0, p.cString(l[0])).from[1] = dev
	}
	p.do("clear umask", unix.SYS_UMASK, 0)
	copies := make([]*int32, len(nodes))
	for i, n := range nodes {
		name := p.cString(n.Name)
		if makesOwnNodes(c) {
			p.do("make /dev/"+n.Name, unix.SYS_MKNODAT, 0, name, uintptr(n.Mode), uintptr(n.Dev)).from[0] = dev
			if n.UID != 0 || n.GID != 0 {
				p.do("give /dev/"+n.Name+" to its owner", unix.SYS_FCHOWNAT, 0, name, uintptr(n.UID), uintptr(n.GID), unix.AT_SYMLINK_NOFOLLOW).from[0] = dev
			}
			continue
		}
		copies[i] = p.slot()
		p.do("make /dev/"+n.Name, unix.SYS_MKNODAT, 0, name, unix.S_IFREG|0o666, 0).from[0] = dev
		p.do("copy /dev/"+n.Name, unix.SYS_OPEN_TREE, cwd, p.cString(n.copied), unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC).into = copies[i]
	}
	p.attach("/dev", dev, tree, "dev")
	for i, n := range nodes {
		if copies[i] != nil {
			p.attach("/dev/"+n.Name, copies[i], dev, n.Name)
		}
	}
	quiet := uintptr(unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC)
	for _, f := range []struct {
		kind, at string
		attr     uintptr
		kv       []string
	}{
		{"devpts", "pts", quiet, []string{"ptmxmode", "0666", "mode", "0620", "gid", "5"}},
		{"tmpfs", "shm", quiet | unix.MOUNT_ATTR_NODEV, []string{"mode", "1777", "size", strconv.FormatInt(cmp.Or(c.ShmSize, 64<<20), 10)}},
		{"mqueue", "mqueue", quiet | unix.MOUNT_ATTR_NODEV, nil},
	} {
		s := p.slot()
		p.filesystem(f.kind, f.attr, f.kv, s)
		p.attach("/dev/"+f.at, s, dev, f.at)
	}
}

// dirsOf returns the directories that /dev needs, parents before children.
func dirsOf(nodes []node) []string {
	dirs := []string{"pts", "shm", "mqueue"}
	have := map[string]bool{}
	for _, n := range nodes {
		for i, c := range n.Name {
			if dir := n.Name[:i]; c == '/' && !have[dir] {
				have[dir] = true
				dirs = append(dirs, dir)
			}
		}
	}
	return dirs
}

// makeDevices makes nodes for Config.Devices in the nursery, where the child finds them in
// its copy. The host's own nodes have owners and modes that are not for the container.
func (b *startJob) makeDevices() error {
	if len(b.c.Devices) == 0 || b.c.IDBase == 0 {
		return nil
	}
	fs, err := newFilesystem("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, "mode", "755", "size", "64k")
	if err != nil {
		return err
	}
	b.opened = append(b.opened, fs)
	for i, d := range b.c.Devices {
		name := strconv.Itoa(i)
		if err := unix.Mknodat(fs, name, d.Mode, int(d.Dev)); err != nil {
			return fmt.Errorf("make node /dev/%s: %w", d.Name, err)
		}
		if err := unix.Fchownat(fs, name, int(b.c.IDBase+d.UID), int(b.c.IDBase+d.GID), unix.AT_SYMLINK_NOFOLLOW); err != nil {
			return fmt.Errorf("give node /dev/%s to its owner: %w", d.Name, err)
		}
	}
	dir := devicesDir(b.root)
	if err := unix.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make directory for devices: %w", err)
	}
	if err := unix.MoveMount(fs, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach devices: %w", err)
	}
	return nil
}

// clearDevices undoes makeDevices.
func (b *startJob) clearDevices() {
	if len(b.c.Devices) > 0 {
		unix.Unmount(devicesDir(b.root), unix.MNT_DETACH)
		unix.Rmdir(devicesDir(b.root))
	}
}

// checkDevices returns an error unless all names are clean paths below /dev.
func checkDevices(all []Device) error {
	for _, d := range all {
		if path.Clean("/"+d.Name) != "/"+d.Name || strings.HasSuffix(d.Name, "/") {
			return &Error{AtStep, fmt.Sprintf("read device %q", d.Name), unix.EINVAL, "not a clean path below /dev"}
		}
	}
	return nil
}
