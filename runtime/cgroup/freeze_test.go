package cgroup

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
	"unsafe"

	"stead/runtime/roottest"

	"golang.org/x/sys/unix"
)

// insiders are what the test binary does as a process of a group.
var insiders = map[string]func() error{"count": count, "grow": grow, "stick": stick}

func TestMain(m *testing.M) {
	do, ok := insiders[os.Getenv("INSIDE")]
	if !ok {
		os.Exit(roottest.Main(m))
	}
	fmt.Println(do())
}

// insideSelf runs one of them in the group.
func insideSelf(t *testing.T, g *Group, do, file string) *insider {
	return inside(t, g, fmt.Sprintf("INSIDE=%s FILE=%s exec %s", do, file, os.Args[0]))
}

// count counts in a file's memory for as long as its standard input is open.
func count() error {
	n, err := counterIn(os.Getenv("FILE"))
	if err != nil {
		return err
	}
	go func() {
		for {
			*n++
		}
	}()
	fmt.Println("counts")
	os.Stdin.Read(make([]byte, 1))
	return nil
}

// counterIn is a number in a file's memory that others see change.
func counterIn(file string) (*uint64, error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if err := f.Truncate(int64(os.Getpagesize())); err != nil {
		return nil, err
	}
	b, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, err
	}
	return (*uint64)(unsafe.Pointer(&b[0])), nil
}

// What is done while a group is frozen is done while no process of it runs, and
// afterwards they run on, whatever came of it.
func TestWhileFrozen(t *testing.T) {
	h := newHost(t)
	if h.unified == "" {
		t.Skip("no cgroup2 mount")
	}
	g := h.Group("web.1")
	if _, err := g.Create(NoLimits()); err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	file := t.TempDir() + "/count"
	p := insideSelf(t, g, "count", file)
	defer p.end()
	defer g.Thaw() // or it would not end
	p.hear("counts")
	n, err := counterIn(file)
	if err != nil {
		t.Fatal(err)
	}
	load := func() uint64 { return *(*uint64)(unsafe.Pointer(n)) }
	goesOn := func() {
		t.Helper()
		for from, end := load(), time.Now().Add(roottest.Patience); load() == from; time.Sleep(10 * time.Microsecond) {
			if time.Now().After(end) {
				t.Fatal("it stands still")
			}
		}
	}
	failed := errors.New("failed")
	var took []time.Duration
	for i := range 200 {
		want := []error{nil, failed}[i%2]
		began := time.Now()
		err := g.whileFrozen(func() error {
			from := load()
			if readKeyed(g.unifiedFile("cgroup.events"))["frozen"] != 1 {
				t.Error("the kernel has not frozen it yet")
			}
			if !g.FrozenByUs() {
				t.Error("it is not marked as ours")
			}
			for end := time.Now().Add(time.Millisecond); time.Now().Before(end); {
			}
			if n := load() - from; n > 0 {
				t.Errorf("it counted on by %d", n)
			}
			return want
		})
		took = append(took, time.Since(began)-time.Millisecond)
		if !errors.Is(err, want) || g.FrozenByUs() {
			t.Fatalf("error %v, want %v; marked %v", err, want, g.FrozenByUs())
		}
		goesOn()
	}
	slices.Sort(took)
	t.Log("besides what was done it took", took[len(took)/2], "and at most", took[len(took)-1])
}

// A process that can't be frozen makes it fail, and the others go on.
func TestCannotFreeze(t *testing.T) {
	h := newHost(t)
	if h.unified == "" {
		t.Skip("no cgroup2 mount")
	}
	g := h.Group("web.1")
	if _, err := g.Create(NoLimits()); err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	p := insideSelf(t, g, "stick", "")
	defer func() { p.cmd.Process.Kill(); p.end() }()
	if said := p.hear("sticks"); said != "" {
		t.Skip("this kernel has no userfaultfd: ", said)
	}
	for end := time.Now().Add(roottest.Patience); !waits(p.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it does not wait in the kernel")
		}
	}
	err := g.whileFrozen(func() error { t.Error("done all the same"); return nil })
	if err == nil || !strings.Contains(err.Error(), "not all processes stopped within 1s") {
		t.Error(err)
	}
	if g.Frozen() || g.FrozenByUs() {
		t.Error("it is left frozen")
	}
}

// waits says whether a thread of a process is in an uninterruptible state.
func waits(pid int) bool {
	tasks, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	for _, task := range tasks {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", pid, task.Name()))
		if strings.Contains(string(b), ") D ") {
			return true
		}
	}
	return false
}

// stick waits in the kernel for a page that nobody ever gives it.
func stick() error {
	const api, register, missing = 0xc018aa3f, 0xc020aa00, 1 // linux/userfaultfd.h
	fd, _, e := unix.Syscall(unix.SYS_USERFAULTFD, unix.O_CLOEXEC, 0, 0)
	if e != 0 {
		return os.NewSyscallError("userfaultfd", e)
	}
	version := [3]uint64{0xaa}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, api, uintptr(unsafe.Pointer(&version))); e != 0 {
		return os.NewSyscallError("userfaultfd", e)
	}
	page, err := unix.Mmap(-1, 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	at := [4]uint64{uint64(uintptr(unsafe.Pointer(&page[0]))), uint64(len(page)), missing}
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, fd, register, uintptr(unsafe.Pointer(&at))); e != 0 {
		return os.NewSyscallError("userfaultfd", e)
	}
	fmt.Println("sticks")
	var b [1]byte
	local, remote := []unix.Iovec{{Base: &b[0], Len: 1}}, []unix.RemoteIovec{{Base: uintptr(at[0]), Len: 1}}
	_, err = unix.ProcessVMReadv(os.Getpid(), local, remote, 0)
	return err
}

// A limit that comes down on a container that grows all the time kills nothing: it
// is had in a moment when it fits, or refused. The container here takes all that
// it sees it may have, so that only what happens between look and write can kill.
func TestMemoryBelowGrowth(t *testing.T) {
	h := newHost(t)
	g := h.Group("web.1")
	wide, narrow := NoLimits(), NoLimits()
	wide.Memory, wide.Swap = 256<<20, 0
	narrow.Memory, narrow.Swap = 64<<20, 0
	if _, err := g.Create(wide); err != nil {
		t.Fatal(err)
	}
	defer g.Remove()
	file := g.unifiedFile("memory.max")
	if h.Mode != V2 {
		file = g.v1File("memory", "memory.limit_in_bytes")
	}
	p := insideSelf(t, g, "grow", file)
	defer p.end()
	defer g.Thaw()
	p.hear("grew")
	had, refused, rounds := 0, map[string]int{}, 30
	if h.Mode != V2 {
		rounds = 10 // the kernel itself looks and writes at once, and takes its seconds for each
	}
	if testing.Short() {
		rounds /= 2
	}
	for i := range rounds {
		for at, end := int64(i%10)*20<<20, time.Now().Add(time.Second); *g.Usage().Memory < at && time.Now().Before(end); {
		}
		want := "67108864"
		if r := g.Update(wide, narrow); len(r) > 0 {
			refused[r[0].Message]++
			want = "268435456"
		} else {
			had++
		}
		if got := g.file("memory", "memory.limit_in_bytes", "memory.max"); got != want {
			t.Fatalf("limit %s, want %s", got, want)
		}
		if r := g.Update(narrow, wide); len(r) > 0 {
			t.Fatal(r)
		}
		if n := g.OOMKills(); n != 0 || !p.lives() {
			t.Fatalf("%d were killed, after %d that were had and %v refused", n, had, refused)
		}
		p.hear("grew")
	}
	t.Log("had", had, "refused", refused)
	if had == 0 || h.Mode == V2 && len(refused) == 0 { // v1 waits until it fits
		t.Errorf("%d were had, %v refused: it proves little", had, refused)
	}
}

// grow takes memory up to 200 MiB, or to a little less than its limit, gives it
// back and begins anew, for as long as its standard input is open.
func grow() error {
	const step, most, room = 64 << 10, 200 << 20, 20 << 20
	b, err := unix.Mmap(-1, 0, most, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		return err
	}
	limit, err := os.Open(os.Getenv("FILE"))
	if err != nil {
		return err
	}
	go func() {
		os.Stdin.Read(make([]byte, 1))
		os.Exit(0)
	}()
	for text := make([]byte, 32); ; {
		for at := 0; at < most; at += step {
			n, _ := limit.ReadAt(text, 0)
			if may, err := strconv.Atoi(strings.TrimSpace(string(text[:n]))); err != nil || at+room > may {
				break
			}
			for i := at; i < at+step; i += 4096 {
				b[i] = 1
			}
		}
		if err := unix.Madvise(b, unix.MADV_DONTNEED); err != nil {
			return err
		}
		fmt.Println("grew")
	}
}
