package runtime

import (
	"encoding/binary"
	"hash/maphash"
	"os"
	"strconv"
	"unsafe"

	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// seen is what looks at a run remember of it; zero before the first one.
type seen struct {
	before  bool
	ran     bool               // its command was executed, so that all is mounted
	table   mountTable         // when it was first read
	lost    status.Differences // what has become of its mounts
	space   uint64             // of its mounts; 0 if not known
	list    sign               // of its mounts at the last look
	details sign               // at the last close one

	dir                dirTime // of its directory at the last look
	unlinked, rootless bool    // there is no root, or none that leads there
	recordless         bool    // there is no boot record
}

// mountsMayDiffer says whether the mounts may be others than at the last look. What
// is seen of them at a first one is what they are.
func (s *signs) mountsMayDiffer(c *seen, pid int, closely bool) bool {
	if c.space == 0 {
		c.space = mountSpace(pid)
	}
	if c.space == 0 { // an older kernel
		now, ok := c.details, closely
		if closely {
			now, ok = s.table(pid)
		}
		differ := ok && now != c.details
		c.details = now
		return differ
	}
	list, ok := s.list(c.space)
	if !ok {
		return false // it is dead
	}
	differ := c.list != 0 && list != c.list
	c.list = list
	if closely {
		details, ok := s.details(c.space)
		differ = differ || !ok || details != c.details
		c.details = details
	}
	return differ
}

// A sign tells whether something may have changed in what a process has mounted, for
// a small part of what it costs the kernel to print the table. It means something
// only beside another one of the same process.
type sign uint64

// signs make signs. Its buffers are used again by each: one look at a time.
type signs struct {
	seed maphash.Seed
	ids  []uint64
	hash []byte
	text []byte
	one  [72]byte // struct statmount as far as its mnt_attr
}

func newSigns() *signs {
	return &signs{seed: maphash.MakeSeed(), ids: make([]uint64, 256), text: make([]byte, 64<<10)}
}

// mountRequest is struct mnt_id_req.
type mountRequest struct {
	size, _          uint32
	id, param, space uint64
}

const (
	sysStatmount, sysListmount = 457, 458           // the same on all architectures
	getMountSpaceID            = 0x8008b705         // NS_GET_MNTNS_ID (Linux 6.11)
	listRoot                   = 0xffffffffffffffff // LSMT_ROOT
	statBasic                  = 2                  // STATMOUNT_MNT_BASIC
)

// mountSpace is the id of a process's mount namespace, which no other one ever gets;
// 0 where the kernel has none (before Linux 6.11).
func mountSpace(pid int) uint64 {
	fd, err := unix.Open("/proc/"+strconv.Itoa(pid)+"/ns/mnt", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0
	}
	defer unix.Close(fd)
	var id uint64
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), getMountSpaceID, uintptr(unsafe.Pointer(&id))); e != 0 {
		return 0
	}
	return id
}

// list is the sign of which mounts there are, by their ids, of which none is used
// twice (listmount, Linux 6.8).
func (s *signs) list(space uint64) (sign, bool) {
	for {
		q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: listRoot, space: space}
		n, _, e := unix.Syscall6(sysListmount, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&s.ids[0])), uintptr(len(s.ids)), 0, 0, 0)
		if e != 0 {
			return 0, false
		}
		if int(n) == len(s.ids) {
			s.ids = make([]uint64, 2*len(s.ids))
			continue
		}
		s.hash = s.hash[:0]
		for _, id := range s.ids[:n] {
			s.hash = binary.NativeEndian.AppendUint64(s.hash, id)
		}
		return sign(maphash.Bytes(s.seed, s.hash)), true
	}
}

// details is the sign of which there are and how each is mounted.
func (s *signs) details(space uint64) (sign, bool) {
	if _, ok := s.list(space); !ok {
		return 0, false
	}
	for _, id := range s.ids[:len(s.hash)/8] {
		q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: id, param: statBasic, space: space}
		if _, _, e := unix.Syscall6(sysStatmount, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&s.one)), unsafe.Sizeof(s.one), 0, 0, 0); e != 0 {
			return 0, false
		}
		s.hash = append(s.hash, s.one[:]...)
	}
	return sign(maphash.Bytes(s.seed, s.hash)), true
}

// table is the sign of the whole table, as the kernel prints it.
func (s *signs) table(pid int) (sign, bool) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	n := 0
	for {
		m, err := f.Read(s.text[n:])
		n += m
		if err != nil {
			return sign(maphash.Bytes(s.seed, s.text[:n])), true
		}
		if n == len(s.text) {
			s.text = append(s.text, s.text...)
		}
	}
}
