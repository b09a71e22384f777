package launch

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Launcher starts containers. It holds the nursery: a mount namespace with a small tmpfs as
// root, unmasked proc and sysfs, a sysfs of an empty network namespace, an empty read-only
// directory for masks, the six device nodes and /dev/null. During a start it also has
// /root-NAME.NONCE, and while a merged root is mounted /overlay-N. So the child's copy of the namespace is small, however many mounts the host has.
type Launcher struct {
	host, nursery int // namespaces
	top, proc     int // directories: the nursery's root, the host's /proc
	noNetwork     int // the network namespace of noNetworkSys
	null          int // the host's /dev/null, read-only: a container that has it open can't change its mode or owner
	work          chan func(*worker)
	reserved      []window    // all reserved windows
	windows       chan window // the windows that no child uses
	wait          sync.WaitGroup
	jobs          atomic.Int64  // that have ended
	extra         atomic.Int64  // threads besides those that serve always
	overlays      atomic.Uint64 // how many were mounted; names them in the nursery

	memMu sync.Mutex
	mems  map[*worker][]byte
}

// worker is one thread that switches between the two namespaces. One worker does a whole
// start.
type worker struct {
	*Launcher
	mem    []byte // of the program of the current start
	starts int
}

// programSize is enough for a program with a usual command.
const programSize = 192 << 10

// memory returns memory for the next program, with room for size bytes more than every
// program needs. The mapping is private: a child keeps its copy when the worker reuses it.
func (w *worker) memory(size int) []byte {
	w.memMu.Lock() // a mapping that is not in mems yet would be excluded from the clone
	defer w.memMu.Unlock()
	if need := programSize + size; len(w.mem) < need {
		mem, err := unix.Mmap(-1, 0, (need+0xffff)&^0xffff, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
		if err != nil {
			return w.mem // too small: the program returns an error
		}
		if w.mem != nil {
			unix.Munmap(w.mem)
		}
		w.mem, w.mems[w] = mem, mem
	}
	if canExcludeFromFork && w.starts%64 == 0 {
		excludeFromFork(slices.Collect(maps.Values(w.mems))) // after an error the clone only takes longer
	}
	w.starts++
	return w.mem
}

func address(b []byte) uintptr { return uintptr(unsafe.Pointer(unsafe.SliceData(b))) }

// NewLauncher creates the nursery and n threads. dir is an empty directory that serves as a
// mount point in the nursery. The caller must be root.
func NewLauncher(dir string, n int) (*Launcher, error) {
	l := &Launcher{work: make(chan func(*worker)), mems: map[*worker][]byte{}}
	raiseHardLimits()
	var err error
	if l.host, err = unix.Open("/proc/self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("open mount namespace", err)
	}
	if l.proc, err = unix.Open("/proc", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return nil, os.NewSyscallError("open /proc", err)
	}
	if err := l.reserveWindows(2 * n); err != nil {
		return nil, err
	}
	ready := make(chan error)
	for i := range n {
		l.wait.Add(1)
		go l.serve(i == 0, dir, ready)
		if err := <-ready; err != nil {
			return nil, fmt.Errorf("make nursery: %w", err)
		}
	}
	return l, nil
}

// Close ends the threads. Containers keep running.
func (l *Launcher) Close() {
	close(l.work)
	l.wait.Wait()
	for _, w := range l.reserved {
		w.close(windowSize)
	}
	for _, fd := range []int{l.host, l.nursery, l.top, l.proc, l.noNetwork, l.null} {
		unix.Close(fd)
	}
}

// serve runs on its own thread, which ends with it because it is never unlocked.
func (l *Launcher) serve(first bool, dir string, ready chan<- error) {
	defer l.wait.Done()
	runtime.LockOSThread()
	// setns to a mount namespace refuses a thread that shares its working
	// directory and root with others.
	leaveLoginSession()
	err := unix.Unshare(unix.CLONE_FS)
	if err == nil && first {
		err = l.makeNursery(dir)
	}
	ready <- err
	if err != nil {
		return
	}
	w := &worker{Launcher: l}
	for job := range l.work {
		_ = ResetThread() // each time: somebody may have changed the keeper since
		job(w)
	}
}

// do runs f on one of the threads and waits for it.
func (l *Launcher) do(f func(*worker)) {
	done := make(chan struct{})
	l.give(func(w *worker) {
		f(w)
		l.jobs.Add(1)
		close(done)
	})
	<-done
}

// stuckAfter is how long all threads may take for their jobs until one more is started: a file
// system that hangs may hold them for ever.
const stuckAfter = 250 * time.Millisecond

// maxExtra is the highest number of threads besides those that serve always.
const maxExtra = 64

// give gives a job to the next free thread. If none has ended a job for some time, it starts
// another thread for this job.
func (l *Launcher) give(job func(*worker)) {
	select {
	case l.work <- job:
		return
	default:
	}
	for {
		before := l.jobs.Load()
		select {
		case l.work <- job:
			return
		case <-time.After(stuckAfter):
		}
		if l.jobs.Load() != before {
			continue
		}
		if l.extra.Add(1) <= maxExtra {
			l.wait.Add(1)
			go l.serveExtra(job)
			return
		}
		l.extra.Add(-1)
	}
}

// extraIdle is how long an extra thread waits for another job.
const extraIdle = 2 * time.Second

// serveExtra is serve of an extra thread, which ends when there is nothing to do.
func (l *Launcher) serveExtra(job func(*worker)) {
	defer l.wait.Done()
	defer l.extra.Add(-1)
	runtime.LockOSThread()
	leaveLoginSession()
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		go l.give(job) // when another is free
		return
	}
	w := &worker{Launcher: l}
	defer w.freeMemory()
	for ok := true; ok; {
		_ = ResetThread()
		job(w)
		select {
		case job, ok = <-l.work:
		case <-time.After(extraIdle):
			return
		}
	}
}

// freeMemory gives the memory of a thread that ends back.
func (w *worker) freeMemory() {
	w.memMu.Lock()
	defer w.memMu.Unlock()
	if w.mem != nil {
		delete(w.mems, w)
		_ = unix.Munmap(w.mem)
		w.mem = nil
	}
}

// enter moves the thread, its working directory and its root to a mount namespace.
func (w *worker) enter(ns int) error { return unix.Setns(ns, unix.CLONE_NEWNS) }

func (l *Launcher) makeNursery(dir string) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return os.NewSyscallError("unshare mount namespace", err)
	}
	// Private, not slave: no mount may propagate in either direction.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return os.NewSyscallError("make mounts private", err)
	}
	top, err := newFilesystem("tmpfs", safe, "mode", "755", "size", "1m")
	if err != nil {
		return err
	}
	defer unix.Close(top)
	nodes, err := deviceTrees()
	if err != nil {
		return err
	}
	null, err := copyMount(unix.AT_FDCWD, "/dev/null", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY, -1)
	if err != nil {
		return err
	}
	if err := unix.MoveMount(top, "", unix.AT_FDCWD, dir, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return os.NewSyscallError("attach nursery", err)
	}
	// The copies of all host mounts go away with the old root, so none stays busy.
	if err := pivotTo(top); err != nil {
		return err
	}
	if err := fillNursery(nodes, null); err != nil {
		return err
	}
	if l.noNetwork, err = mountNoNetworkSys(); err != nil {
		return err
	}
	if l.null, err = unix.Open("/dev/null", unix.O_PATH|unix.O_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("open node null", err)
	}
	if l.nursery, err = unix.Open("/proc/thread-self/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("open nursery namespace", err)
	}
	if l.top, err = unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0); err != nil {
		return os.NewSyscallError("open nursery", err)
	}
	return unix.Setns(l.host, unix.CLONE_NEWNS)
}

func deviceTrees() ([]int, error) {
	var nodes []int
	for _, d := range devices {
		fd, err := copyMount(unix.AT_FDCWD, "/dev/"+d.name, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC, -1)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, fd)
	}
	return nodes, nil
}

func pivotTo(top int) error {
	if err := unix.Fchdir(top); err != nil {
		return os.NewSyscallError("enter nursery", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return os.NewSyscallError("pivot to nursery", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return os.NewSyscallError("unmount old root", err)
	}
	return os.NewSyscallError("enter nursery", unix.Chdir("/"))
}

func fillNursery(nodes []int, null int) error {
	for _, d := range []string{"proc", "sys", "dev", "nodes", "empty", noNetworkSys} {
		if err := unix.Mkdir(d, 0o755); err != nil {
			return os.NewSyscallError("mkdir "+d, err)
		}
	}
	const flags = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	for _, m := range []struct {
		kind, at, copyIn string
		flags            uintptr
	}{{"proc", "proc", "", flags}, {"sysfs", "sys", "", flags}, {"tmpfs", "empty", "size=4k,mode=555", flags | unix.MS_RDONLY}} {
		if err := unix.Mount(m.kind, m.at, m.kind, m.flags, m.copyIn); err != nil {
			return os.NewSyscallError("mount "+m.kind, err)
		}
	}
	for i, d := range devices {
		if err := attachNode(nodes[i], "/nodes/"+d.name); err != nil {
			return err
		}
	}
	return attachNode(null, "/dev/null")
}

// noNetworkSys is the path in the nursery of the sysfs for all containers without a network:
// that of an empty network namespace. A sysfs for each container would show the same, and the
// kernel goes through all existing ones to make another: 8 ms at 4,000 of them.
const noNetworkSys = "/no-network"

// mountNoNetworkSys mounts noNetworkSys. The calling goroutine must be locked to its thread.
// The returned descriptor keeps the network namespace alive: when it is closed, loopback
// disappears from the sysfs of running containers.
func mountNoNetworkSys() (namespace int, err error) {
	const path = "/proc/thread-self/ns/net"
	own, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, os.NewSyscallError("open network namespace", err)
	}
	defer unix.Close(own)
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return -1, os.NewSyscallError("make a network namespace", err)
	}
	if namespace, err = unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err == nil {
		err = unix.Mount("sysfs", noNetworkSys, "sysfs", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC|unix.MS_RDONLY, "")
	}
	err = errors.Join(os.NewSyscallError("mount sysfs of no network", err), loopbackUp())
	return namespace, errors.Join(err, os.NewSyscallError("go back to the network namespace", unix.Setns(own, unix.CLONE_NEWNET)))
}

// loopbackUp brings loopback up in the thread's network namespace, as in a container's.
func loopbackUp() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open socket", err)
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return os.NewSyscallError("bring loopback up", unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo))
}

func attachNode(mount int, at string) error {
	defer unix.Close(mount)
	fd, err := unix.Open(at, unix.O_CREAT|unix.O_WRONLY|unix.O_CLOEXEC, 0o666)
	if err != nil {
		return os.NewSyscallError("make "+at, err)
	}
	unix.Close(fd)
	return os.NewSyscallError("attach "+at, unix.MoveMount(mount, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH))
}

// openNull opens the launcher's /dev/null for a container.
func (l *Launcher) openNull(access int) (int, error) {
	return unix.Open("/proc/self/fd/"+strconv.Itoa(l.null), access|unix.O_CLOEXEC, 0)
}
