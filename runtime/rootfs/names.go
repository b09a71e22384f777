package rootfs

import (
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// Names are the names by which a container knows itself and others.
type Names struct {
	Hostname    string
	HostNetwork bool // it is on the host's network, so that the host's names are valid inside
}

const loopbackNames = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"

// Hosts returns the content of /etc/hosts.
func (n Names) Hosts() string {
	text := loopbackNames
	if n.HostNetwork {
		if b, err := readSmall("/etc/hosts"); err == nil {
			text = strings.TrimSuffix(string(b), "\n") + "\n"
		}
	}
	own := n.Hostname
	if short, _, dotted := strings.Cut(own, "."); dotted {
		own += " " + short
	}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(line, "#")
		for i, name := range strings.Fields(line) {
			if i > 0 && name == n.Hostname {
				return text
			}
		}
	}
	return text + "127.0.1.1\t" + own + "\n"
}

// Files returns the files of /etc that hold names and addresses.
func (n Names) Files() map[string]string {
	files := map[string]string{"hosts": n.Hosts(), "hostname": n.Hostname + "\n"}
	if b, err := readSmall("/etc/resolv.conf"); err == nil {
		files["resolv.conf"] = string(b)
	}
	return files
}

// Lacks reports whether the /etc of a root lacks a file, and could have one. An empty file is
// the target of an earlier mount.
func Lacks(root, name string) bool {
	dir, err := os.OpenRoot(root) // the content is hostile
	if err != nil {
		return false
	}
	defer dir.Close()
	if st, err := dir.Lstat("etc/" + name); err == nil {
		return st.Mode().IsRegular() && st.Size() == 0
	}
	st, err := dir.Stat("etc")
	if err != nil {
		return false // no root of a distribution
	}
	return st.IsDir() && isWritable(dir, "etc")
}

// LacksOwn is Lacks for a merged root: whether its private part, upper, lacks the file, whatever
// the layers have. A file that the container deleted counts as its own.
func LacksOwn(root, upper, name string) bool {
	dir, err := os.OpenRoot(root)
	if err != nil {
		return false
	}
	defer dir.Close()
	if st, err := dir.Lstat("etc/" + name); err == nil && !st.Mode().IsRegular() { // a link leads to what the system inside manages
		return false
	}
	own, err := os.OpenRoot(upper)
	if err != nil {
		return false
	}
	defer own.Close()
	if st, err := own.Lstat("etc/" + name); err == nil {
		return st.Mode().IsRegular() && st.Size() == 0
	}
	st, err := dir.Stat("etc")
	return err == nil && st.IsDir()
}

// isWritable reports whether files can be made in a directory: its file system may be
// read-only.
func isWritable(root *os.Root, name string) bool {
	f, err := root.OpenFile(name, os.O_RDONLY, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	var st unix.Statfs_t
	return unix.Fstatfs(int(f.Fd()), &st) == nil && st.Flags&unix.ST_RDONLY == 0
}
