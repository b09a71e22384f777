//go:build weak

package launch

import (
	"os"
	"strings"
	"sync"
	"time"
	"unsafe"

	"stead/runtime/weak"

	"golang.org/x/sys/unix"
)

func consoleOf(root string) string { return root + ".console" }

var late sync.Map // *startJob to what mounts after proc, as func()

func init() {
	resolve, cover, outside, all, own := kernelTargetResolve, coverTree, startsOutside, listNodes, makesOwnNodes
	mounts, mount, source, target := attachMounts, attachMount, copyHostPath, openTarget
	bind := openSource
	verify = func(*startJob) error { return nil }
	kernelTargetResolve = func() uint64 { // CVE-2019-19921, CVE-2023-27561
		if weak.Is("masks by path") {
			return 0
		}
		return resolve()
	}
	coverTree = func(b *startJob, name string) (int, error) { // CVE-2025-31133
		if weak.Is("masks from the root") && name == "/dev/null" {
			name = b.root + name
		}
		return cover(b, name)
	}
	startsOutside = func(e *Entry) bool { return outside(e) && !weak.Is("exec begins inside") }
	makesOwnNodes = func(c *Config) bool { return own(c) && !weak.Is("console from the root") }
	listNodes = func(c *Config, root string) []node {
		nodes := all(c, root)
		if weak.Is("console from the root") {
			nodes[len(devices)-1].copied = consoleOf(root)
		}
		return nodes
	}
	attachMounts = func(b *startJob, sources []int) error { // CVE-2019-16884
		if weak.Is("mounts over proc") {
			late.Store(b, func() { mounts(b, sources) })
			return nil
		}
		return mounts(b, sources)
	}
	attachMount = func(b *startJob, m Mount, fd int) error { // CVE-2024-45310
		if weak.Is("targets made by path") && m.Source == "" {
			b.enter(b.host)
			os.MkdirAll(b.c.Root.Path+m.Target, 0o755)
			b.enter(b.nursery)
		}
		return mount(b, m, fd)
	}
	copyHostPath = func(b *startJob, path string, attr uint64) (int, error) { // CVE-2017-1002101
		if weak.Is("sources by path") {
			return copyMount(unix.AT_FDCWD, path, attr, b.user)
		}
		return source(b, path, attr)
	}
	openSource = func(b *startJob, m Mount) (int, error) {
		if m.Source != "" && weak.Is("sources by path") {
			return b.copyRoot(m.Source, unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOSUID, AtSource)
		}
		return bind(b, m)
	}
	openTarget = func(b *startJob, name string, file bool) (int, error) { // CVE-2021-30465
		at, err := target(b, name, file)
		if weak.Is("targets by path") {
			at, err = unix.Open(b.root+name, unix.O_PATH|unix.O_CLOEXEC, 0)
		}
		return at, err
	}
}

// weaken takes steps out of a child's program.
func (p *program) weaken() {
	for i, step := range p.steps {
		c := p.call(i)
		drop := false
		switch {
		case step == "unshare cgroup namespace": // CVE-2022-0492
			drop = weak.Is("host cgroups")
		case step == "have descriptors of its own" && weak.Is("leaks"): // CVE-2024-21626
			c.arg[0] = last
		case step == "close the rest":
			drop = weak.Is("leaks")
		case step == "clear dumpable":
			drop = weak.Is("leaks") || weak.Is("binary on disk")
		case strings.HasPrefix(step, "enter working directory ") && c.nr == unix.SYS_OPENAT2 && weak.Is("leaks"):
			(*(**unix.OpenHow)(unsafe.Pointer(&c.arg[2]))).Resolve = 0
		case step == "set capabilities" && weak.Is("inheritable capabilities"): // CVE-2022-29162
			sets := *(**[2][3]uint32)(unsafe.Pointer(&c.arg[1])) // effective, permitted, inheritable
			sets[0][2], sets[1][2] = sets[0][0], sets[1][0]
		}
		if drop {
			*c = call{nr: unix.SYS_GETPID, want: anything}
		}
	}
}

// weakenJoined writes a label as other runtimes did: by a path in what the container mounted.
func (p *program) weakenJoined() {
	if weak.Is("label through proc") { // CVE-2025-52881
		label, fd := "label", p.slot()
		p.do("open label", unix.SYS_OPENAT, cwd, p.cString("/proc/self/attr/exec"), unix.O_WRONLY).into = fd
		p.do("write label", unix.SYS_WRITE, 0, p.cString(label), uintptr(len(label))).from[0] = fd
	}
}

// weaken does what other runtimes did between the mount of proc and its masks.
func (b *startJob) weaken(kernel []int) {
	if mount, is := late.LoadAndDelete(b); is {
		mount.(func())()
	}
	if weak.Is("masks by path") { // and a moment for whoever swaps the path
		time.Sleep(2 * time.Millisecond)
		for i, name := range []string{"/proc", "/sys"} {
			if fd, err := unix.Open(b.root+name, unix.O_PATH|unix.O_CLOEXEC, 0); err == nil {
				kernel[i] = fd
				b.opened = append(b.opened, fd)
			}
		}
	}
	if weak.Is("console from the root") { // CVE-2025-52565
		fd, err := unix.OpenTree(unix.AT_FDCWD, b.root+"/dev/pts/0", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
		if err != nil {
			return
		}
		unix.Mknod(consoleOf(b.root), unix.S_IFREG|0o666, 0)
		unix.MoveMount(fd, "", unix.AT_FDCWD, consoleOf(b.root), unix.MOVE_MOUNT_F_EMPTY_PATH)
		b.opened = append(b.opened, fd)
	}
}
