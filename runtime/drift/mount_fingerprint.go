package drift

import (
	"encoding/binary"
	"hash/maphash"
	"os"
	"strconv"
	"unsafe"

	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// seen is what inspections remember of a run.
type seen struct {
	nonce   string             // of the run
	suspect bool               // its cgroup is to be looked at
	before  bool               // an inspection looked at its mounts and files
	ran     bool               // its command was executed, so that all is mounted
	table   mountTable         // when it was first read
	lost    status.Differences // what has become of its mounts
	space   uint64             // of its mounts; 0 if not known
	list    fingerprint        // of its mounts at the last look
	details fingerprint        // at the last close one

	dir                dirTime // of its directory at the last look
	unlinked, rootless bool    // there is no root, or none that leads there
	recordless         bool    // there is no boot record
	pipeless           bool    // it was said that a pipe is gone
}

// mountsMayDiffer says whether the mounts may be others than at the last look. What
// is seen of them at a first one is what they are.
func (p *fingerprinter) mountsMayDiffer(s *seen, pid int, closely bool) bool {
	if s.space == 0 {
		s.space = mountSpace(pid)
	}
	if s.space == 0 { // an older kernel
		now, ok := s.details, closely
		if closely {
			now, ok = p.table(pid)
		}
		differ := ok && now != s.details
		s.details = now
		return differ
	}
	list, ok := p.list(s.space)
	if !ok {
		return false // it is dead
	}
	differ := s.list != 0 && list != s.list
	s.list = list
	if closely {
		details, ok := p.details(s.space)
		differ = differ || !ok || details != s.details
		s.details = details
	}
	return differ
}

// fingerprint tells whether something may have changed in what a process has mounted, for
// a small part of what it costs the kernel to print the table. It means something
// only beside another one of the same process.
type fingerprint uint64

// fingerprinter hashes what is mounted. Its buffers are used again by each: one inspection at a time.
type fingerprinter struct {
	seed maphash.Seed
	ids  []uint64
	hash []byte
	text []byte
	one  [72]byte // struct statmount as far as its mnt_attr
}

func newFingerprinter() *fingerprinter {
	return &fingerprinter{seed: maphash.MakeSeed(), ids: make([]uint64, 256), text: make([]byte, 64<<10)}
}

// mountRequest is struct mnt_id_req.
type mountRequest struct {
	size, _          uint32
	id, param, space uint64
}

const (
	listRoot  = 0xffffffffffffffff // LSMT_ROOT
	statBasic = 2                  // STATMOUNT_MNT_BASIC
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
	if _, _, e := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.NS_GET_MNTNS_ID, uintptr(unsafe.Pointer(&id))); e != 0 {
		return 0
	}
	return id
}

// list is the fingerprint of which mounts there are, by their ids, of which none is used
// twice (listmount, Linux 6.8).
func (p *fingerprinter) list(space uint64) (fingerprint, bool) {
	for {
		q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: listRoot, space: space}
		n, _, e := unix.Syscall6(unix.SYS_LISTMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&p.ids[0])), uintptr(len(p.ids)), 0, 0, 0)
		if e != 0 {
			return 0, false
		}
		if int(n) == len(p.ids) {
			p.ids = make([]uint64, 2*len(p.ids))
			continue
		}
		p.hash = p.hash[:0]
		for _, id := range p.ids[:n] {
			p.hash = binary.NativeEndian.AppendUint64(p.hash, id)
		}
		return fingerprint(maphash.Bytes(p.seed, p.hash)), true
	}
}

// details is the fingerprint of which there are and how each is mounted.
func (p *fingerprinter) details(space uint64) (fingerprint, bool) {
	if _, ok := p.list(space); !ok {
		return 0, false
	}
	for _, id := range p.ids[:len(p.hash)/8] {
		q := mountRequest{size: uint32(unsafe.Sizeof(mountRequest{})), id: id, param: statBasic, space: space}
		if _, _, e := unix.Syscall6(unix.SYS_STATMOUNT, uintptr(unsafe.Pointer(&q)), uintptr(unsafe.Pointer(&p.one)), unsafe.Sizeof(p.one), 0, 0, 0); e != 0 {
			return 0, false
		}
		p.hash = append(p.hash, p.one[:]...)
	}
	return fingerprint(maphash.Bytes(p.seed, p.hash)), true
}

// table is the fingerprint of the whole table, as the kernel prints it.
func (p *fingerprinter) table(pid int) (fingerprint, bool) {
	f, err := os.Open("/proc/" + strconv.Itoa(pid) + "/mountinfo")
	if err != nil {
		return 0, false
	}
	defer f.Close()
	n := 0
	for {
		m, err := f.Read(p.text[n:])
		n += m
		if err != nil {
			return fingerprint(maphash.Bytes(p.seed, p.text[:n])), true
		}
		if n == len(p.text) {
			p.text = append(p.text, p.text...)
		}
	}
}
