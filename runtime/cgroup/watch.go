package cgroup

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Watch is the kernel's memory of who writes to the files of cgroups (fanotify(7)
// with FAN_REPORT_DFID_NAME on whole hierarchies, which since Linux 6.6 can be told
// apart): to read all limits of all containers again and again would cost a hundred
// times as much. It lies there until somebody asks, so it wakes nobody up.
type Watch struct {
	host   *Host
	queue  int
	points map[[8]byte]*os.File // mount points, by their file system's id
	buffer []byte
}

// Changes are what others than this process wrote since the last time.
type Changes struct {
	// Groups have another limit, or are frozen, it may be; by their names below the parent.
	Groups map[string]bool
	Moved  bool // processes were put into some group: any may have left its own
	All    bool // anything may have happened to any group
}

// Watch begins to take note of writes. It fails where the kernel can't, or this
// process may not.
func (h *Host) Watch() (*Watch, error) {
	queue, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY)
	if err != nil {
		return nil, os.NewSyscallError("fanotify_init", err)
	}
	w := &Watch{host: h, queue: queue, points: map[[8]byte]*os.File{}, buffer: make([]byte, 64<<10)}
	for _, point := range h.points() {
		if err := w.add(point); err != nil {
			w.Close()
			return nil, err
		}
	}
	return w, nil
}

func (w *Watch) add(point string) error {
	if err := unix.FanotifyMark(w.queue, unix.FAN_MARK_ADD|unix.FAN_MARK_FILESYSTEM, unix.FAN_MODIFY, unix.AT_FDCWD, point); err != nil {
		return &os.PathError{Op: "fanotify_mark", Path: point, Err: err}
	}
	var fs unix.Statfs_t
	if err := unix.Statfs(point, &fs); err != nil {
		return &os.PathError{Op: "statfs", Path: point, Err: err}
	}
	f, err := os.Open(point)
	if err != nil {
		return err
	}
	w.points[*(*[8]byte)(unsafe.Pointer(&fs.Fsid))] = f
	return nil
}

// Close ends it.
func (w *Watch) Close() {
	unix.Close(w.queue)
	for _, f := range w.points {
		f.Close()
	}
}

// Changes empties the kernel's queue.
func (w *Watch) Changes() Changes {
	c := Changes{Groups: map[string]bool{}}
	seen := map[string]bool{}
	for {
		n, err := unix.Read(w.queue, w.buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || n <= 0 {
			c.All = c.All || err != unix.EAGAIN
			return c
		}
		for b := w.buffer[:n]; len(b) >= eventSize; {
			size := binary.NativeEndian.Uint32(b)
			if size < eventSize || int(size) > len(b) {
				c.All = true
				break
			}
			w.note(&c, b[:size], seen)
			b = b[size:]
		}
	}
}

// Sizes of struct fanotify_event_metadata, of what stands before the file handle in
// struct fanotify_event_info_fid, and of the handle's own head.
const eventSize, infoSize, handleSize = 24, 12, 8

// note takes one event. seen are directories that are noted already.
func (w *Watch) note(c *Changes, event []byte, seen map[string]bool) {
	mask, pid := binary.NativeEndian.Uint64(event[8:]), int(int32(binary.NativeEndian.Uint32(event[20:])))
	info := event[eventSize:]
	switch {
	case mask&unix.FAN_Q_OVERFLOW != 0:
		c.All = true
		return
	case pid == os.Getpid():
		return
	case len(info) < infoSize+handleSize || info[0] != unix.FAN_EVENT_INFO_TYPE_DFID_NAME:
		c.All = true
		return
	}
	length := int(binary.NativeEndian.Uint32(info[infoSize:]))
	if len(info) < infoSize+handleSize+length {
		c.All = true
		return
	}
	name, _, _ := bytes.Cut(info[infoSize+handleSize+length:], []byte{0})
	switch string(name) {
	case "cgroup.procs", "cgroup.threads", "tasks":
		c.Moved = true
		return
	}
	directory := info[4 : infoSize+handleSize+length]
	if seen[string(directory)] {
		return
	}
	seen[string(directory)] = true
	kind := int32(binary.NativeEndian.Uint32(info[infoSize+4:]))
	w.resolve(c, [8]byte(info[4:infoSize]), unix.NewFileHandle(kind, info[infoSize+handleSize:][:length]))
}

// resolve says which group a directory is.
func (w *Watch) resolve(c *Changes, fs [8]byte, handle unix.FileHandle) {
	point := w.points[fs]
	if point == nil {
		c.All = true
		return
	}
	fd, err := unix.OpenByHandleAt(int(point.Fd()), handle, unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		c.All = c.All || err != unix.ESTALE // it is gone
		return
	}
	defer unix.Close(fd)
	dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		c.All = true
		return
	}
	group := strings.TrimPrefix(dir, strings.TrimSuffix(point.Name(), "/"))
	switch above := group + "/"; {
	case group == w.host.Parent || group == "" || strings.HasPrefix(w.host.Parent, above):
		c.All = true // controllers were switched off, say
	case path.Dir(group) == w.host.Parent:
		c.Groups[filepath.Base(group)] = true
	}
}
