package roottest

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// FUSE is a mounted file system that this process serves: a directory with a few files. It can
// stop answering, as a file system on a network does.
type FUSE struct {
	End func() // unmounts it; requests that wait fail

	fd      int
	mu      sync.Mutex // guards what follows
	hung    bool
	reads   bool // hang too
	slow    time.Duration
	waiting [][]byte // requests
	names   []string // of files; the node of names[i] is i+2
	texts   []string
}

// HungFUSE mounts a file system that answers nothing.
func HungFUSE(t testing.TB, point string) { MountFUSE(t, point, nil).Hang() }

// MountFUSE mounts a file system with these files, until the test is over. Requests that still
// wait then fail.
func MountFUSE(t testing.TB, point string, files map[string]string) *FUSE {
	t.Helper()
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skipf("no FUSE: %v", err)
	}
	f := &FUSE{fd: fd}
	f.End = sync.OnceFunc(func() {
		f.Hang()
		if err := unix.Unmount(point, unix.MNT_FORCE|unix.MNT_DETACH); err != nil { // ends what waits
			t.Errorf("unmount FUSE: %v", err)
		}
	})
	for name, text := range files {
		f.names, f.texts = append(f.names, name), append(f.texts, text)
	}
	if err := unix.Mount("hung", point, "fuse", unix.MS_NODEV|unix.MS_NOSUID, fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)); err != nil {
		unix.Close(fd)
		t.Fatalf("mount FUSE: %v", err)
	}
	served := make(chan struct{})
	go func() { defer close(served); f.serve() }()
	t.Cleanup(func() {
		f.End()
		<-served
		unix.Close(fd)
	})
	return f
}

// Hang makes the file system answer nothing more.
func (f *FUSE) Hang() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung = true
}

// HangReads makes it answer no read of a file.
func (f *FUSE) HangReads() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads = true
}

// Slow makes it answer each request after that time.
func (f *FUSE) Slow(by time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.slow = by
}

// Resume makes it answer again, also what waits.
func (f *FUSE) Resume() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hung, f.reads = false, false
	for _, in := range f.waiting {
		f.reply(in)
	}
	f.waiting = nil
}

// Write replaces the text of a file that is there.
func (f *FUSE) Write(name, text string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.texts[slices.Index(f.names, name)] = text
}

// The protocol is that of include/uapi/linux/fuse.h, version 7.31.
const (
	opLookup, opForget, opGetattr, opOpen, opRead       = 1, 2, 3, 14, 15
	opStatfs, opRelease, opFlush, opInit, opOpendir     = 17, 18, 25, 26, 27
	opReaddir, opReleasedir, opInterrupt, opBatchForget = 28, 29, 36, 42
	inHeader, outHeader                                 = 40, 16
)

var order = binary.LittleEndian

// serve answers until the file system is unmounted.
func (f *FUSE) serve() {
	in := make([]byte, 1<<20)
	for {
		n, err := unix.Read(f.fd, in)
		if err == unix.EINTR || err == unix.ENOENT || err == unix.EAGAIN {
			continue
		}
		if err != nil || n < inHeader { // ENODEV: unmounted
			return
		}
		op := order.Uint32(in[4:])
		if op == opForget || op == opBatchForget || op == opInterrupt {
			continue
		}
		f.mu.Lock()
		slow := f.slow
		f.mu.Unlock()
		time.Sleep(slow)
		f.mu.Lock()
		if f.hung && op != opInit || f.reads && op == opRead {
			f.waiting = append(f.waiting, slices.Clone(in[:n]))
		} else {
			f.reply(in[:n])
		}
		f.mu.Unlock()
	}
}

func (f *FUSE) reply(in []byte) {
	op, unique, node := order.Uint32(in[4:]), order.Uint64(in[8:]), order.Uint64(in[16:])
	body, errno := f.answer(op, node, in[inHeader:])
	out := make([]byte, outHeader, outHeader+len(body))
	order.PutUint32(out, uint32(outHeader+len(body)))
	order.PutUint32(out[4:], uint32(-int32(errno)))
	order.PutUint64(out[8:], unique)
	_, _ = unix.Write(f.fd, append(out, body...))
}

func (f *FUSE) answer(op uint32, node uint64, in []byte) ([]byte, unix.Errno) {
	switch op {
	case opInit:
		out := make([]byte, 64)
		order.PutUint32(out, 7)
		order.PutUint32(out[4:], 31)
		order.PutUint32(out[20:], 4096) // max_write
		return out, 0
	case opLookup:
		name, _, _ := strings.Cut(string(in), "\x00")
		for i := range f.names {
			if f.names[i] == name {
				out := make([]byte, 40)
				order.PutUint64(out, uint64(i+2))
				return append(out, f.attributes(uint64(i+2))...), 0
			}
		}
		return nil, unix.ENOENT
	case opGetattr:
		return append(make([]byte, 16), f.attributes(node)...), 0
	case opOpen, opOpendir:
		return make([]byte, 16), 0
	case opRead:
		text, from, size := f.texts[node-2], order.Uint64(in[8:]), order.Uint32(in[16:])
		from = min(from, uint64(len(text)))
		return []byte(text[from:min(from+uint64(size), uint64(len(text)))]), 0
	case opReaddir:
		var out []byte
		for i := order.Uint64(in[8:]); i < uint64(len(f.names)); i++ {
			e := make([]byte, 24)
			order.PutUint64(e, i+2)
			order.PutUint64(e[8:], i+1)
			order.PutUint32(e[16:], uint32(len(f.names[i])))
			order.PutUint32(e[20:], unix.DT_REG)
			e = append(e, f.names[i]...)
			out = append(out, append(e, make([]byte, (8-len(e)%8)%8)...)...)
		}
		return out, 0
	case opStatfs:
		return make([]byte, 80), 0
	case opRelease, opReleasedir, opFlush:
		return nil, 0
	}
	return nil, unix.ENOSYS
}

// attributes returns the struct fuse_attr of a node: the directory, or a file.
func (f *FUSE) attributes(node uint64) []byte {
	a := make([]byte, 88)
	order.PutUint64(a, node)
	if node == 1 {
		order.PutUint32(a[60:], unix.S_IFDIR|0o755)
		order.PutUint32(a[64:], 2)
		return a
	}
	order.PutUint64(a[8:], uint64(len(f.texts[node-2])))
	order.PutUint32(a[60:], unix.S_IFREG|0o755)
	order.PutUint32(a[64:], 1)
	return a
}
