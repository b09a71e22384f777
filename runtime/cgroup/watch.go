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

// Watch records writes to the files of cgroups in a kernel queue (fanotify(7) with
// FAN_REPORT_DFID_NAME on whole hierarchies, which need Linux 6.6 for distinct ids). Polling
// all limits of all containers would cost a hundred times as much. The queue wakes no
// process; Changes reads it.
type Watch struct {
	host   *Host
	queue  int
	points map[[8]byte]*os.File // mount points, by their file system's id
	buffer []byte
}

// Changes summarizes the writes of other processes since the last call.
type Changes struct {
	// Groups holds the names below the parent of groups whose limits or freezer were written,
	// or whose processes may have been moved away.
	Groups map[string]bool
	Moved  bool // so many processes were moved that any group may be concerned
	All    bool // anything may have happened to any group
}

// manyMoves is how many groups with new processes are inspected one by one.
const manyMoves = 200

// Watch starts to record writes. It fails if the kernel does not support it or if this process
// has no permission.
func (h *Host) Watch() (*Watch, error) {
	queue, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK|unix.FAN_REPORT_DFID_NAME, unix.O_RDONLY)
	if err != nil {
		return nil, os.NewSyscallError("fanotify_init", err)
	}
	w := &Watch{host: h, queue: queue, points: map[[8]byte]*os.File{}, buffer: make([]byte, 64<<10)}
	for _, point := range h.mountPoints() {
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

// Close stops recording.
func (w *Watch) Close() {
	unix.Close(w.queue)
	for _, f := range w.points {
		f.Close()
	}
}

// Changes reads and empties the kernel's queue. home maps the first processes of containers to
// the names of their groups; these joined their groups themselves.
func (w *Watch) Changes(home map[int]string) Changes {
	n := eventNotes{home: home, Changes: Changes{Groups: map[string]bool{}}, written: map[string]bool{}, entered: map[string]bool{}}
	for {
		size, err := unix.Read(w.queue, w.buffer)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || size <= 0 {
			n.All = n.All || err != unix.EAGAIN
			break
		}
		for b := w.buffer[:size]; len(b) >= eventSize; {
			size := binary.NativeEndian.Uint32(b)
			if size < eventSize || int(size) > len(b) {
				n.All = true
				break
			}
			n.add(b[:size])
			b = b[size:]
		}
	}
	for directory := range n.written {
		w.inspect(&n, directory, n.noteLimits)
	}
	if n.Moved = len(n.entered) > manyMoves; !n.Moved {
		for directory := range n.entered {
			w.inspect(&n, directory, n.noteMembers)
		}
	}
	return n.Changes
}

// eventNotes collects events: the directories, as the kernel names them, in which limits were
// written and into which processes were moved.
type eventNotes struct {
	Changes
	home             map[int]string
	written, entered map[string]bool
}

// Sizes of struct fanotify_event_metadata, of what stands before the file handle in
// struct fanotify_event_info_fid, and of the handle's own head.
const eventSize, infoSize, handleSize = 24, 12, 8

// add notes one event.
func (n *eventNotes) add(event []byte) {
	mask, pid := binary.NativeEndian.Uint64(event[8:]), int(int32(binary.NativeEndian.Uint32(event[20:])))
	info := event[eventSize:]
	switch {
	case mask&unix.FAN_Q_OVERFLOW != 0:
		n.All = true
		return
	case pid == os.Getpid():
		return
	case len(info) < infoSize+handleSize || info[0] != unix.FAN_EVENT_INFO_TYPE_DFID_NAME:
		n.All = true
		return
	}
	end := infoSize + handleSize + int(binary.NativeEndian.Uint32(info[infoSize:]))
	if len(info) < end {
		n.All = true
		return
	}
	name, _, _ := bytes.Cut(info[end:], []byte{0})
	switch string(name) {
	case "cgroup.procs", "cgroup.threads", "tasks":
		if n.home[pid] == "" {
			n.entered[string(info[4:end])] = true
		}
	default:
		n.written[string(info[4:end])] = true
	}
}

// inspect opens a directory by its file system's id and its handle, and calls say with its path
// and its group. It ignores removed directories, which have no processes and no limits.
func (w *Watch) inspect(n *eventNotes, directory string, say func(h *Host, dir, group string)) {
	point := w.points[[8]byte([]byte(directory[:8]))]
	if point == nil {
		n.All = true
		return
	}
	kind := int32(binary.NativeEndian.Uint32([]byte(directory[12:])))
	fd, err := unix.OpenByHandleAt(int(point.Fd()), unix.NewFileHandle(kind, []byte(directory[8+handleSize:])), unix.O_PATH|unix.O_CLOEXEC)
	if err != nil {
		n.All = n.All || err != unix.ESTALE
		return
	}
	defer unix.Close(fd)
	dir, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
	if err != nil {
		n.All = true
		return
	}
	say(w.host, dir, strings.TrimPrefix(dir, strings.TrimSuffix(point.Name(), "/")))
}

// noteLimits notes a group in which limits were written.
func (n *eventNotes) noteLimits(h *Host, _, group string) {
	switch above := group + "/"; {
	case group == h.Parent || group == "" || strings.HasPrefix(h.Parent, above):
		n.All = true // for example, controllers were disabled
	case path.Dir(group) == h.Parent:
		n.Groups[filepath.Base(group)] = true
	}
}

// noteMembers notes the home groups of processes that were moved into another group.
func (n *eventNotes) noteMembers(h *Host, dir, group string) {
	text, err := read(dir + "/cgroup.procs")
	if err != nil {
		n.All = n.All || !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ENODEV)
		return
	}
	for word := range strings.FieldsSeq(text) {
		pid, _ := strconv.Atoi(word)
		if home := n.home[pid]; home != "" && group != h.Parent+"/"+home {
			n.Groups[home] = true
		}
	}
}
