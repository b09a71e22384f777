package touch

import (
	"fmt"
	"os"
	"path"
	"strings"

	"golang.org/x/sys/unix"
)

// touch is the work of the process.
func (p *Paths) touch() {
	_ = os.WriteFile("/proc/self/comm", []byte(argv0), 0) // otherwise its name is that of the program
	for _, name := range p.Outside {
		fmt.Println(name)
		use(unix.AT_FDCWD, name, 0)
	}
	if p.Root == "" {
		return
	}
	fmt.Println(p.Root)
	root, err := unix.Open(p.Root, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	use(root, ".", 0)
	for _, name := range p.Inside {
		fmt.Println(path.Join(p.Root, name))
		if name = strings.TrimLeft(path.Clean("/"+name), "/"); name != "" {
			use(root, name, unix.RESOLVE_IN_ROOT|unix.RESOLVE_NO_MAGICLINKS)
		}
	}
}

// use opens a path, asks for its attributes, and reads the beginning of a file or directory.
func use(dir int, name string, resolve uint64) {
	fd, err := unix.Openat2(dir, name, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: resolve})
	if err != nil {
		return
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	var fs unix.Statfs_t
	if unix.Fstat(fd, &st) != nil || unix.Fstatfs(fd, &fs) != nil {
		return
	}
	kind := st.Mode & unix.S_IFMT
	if kind != unix.S_IFDIR && kind != unix.S_IFREG { // an open of others may do something
		return
	}
	open, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", fd), unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return
	}
	defer unix.Close(open)
	buf := make([]byte, 4096)
	if kind == unix.S_IFDIR {
		_, _ = unix.ReadDirent(open, buf)
		return
	}
	_, _ = unix.Read(open, buf)
}
