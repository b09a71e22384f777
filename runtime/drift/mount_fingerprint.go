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

// seen has the findings of earlier inspections of a run.
type seen struct {
	nonce     string             // of the run
	suspect   bool               // the next inspection must look at its cgroup
	before    bool               // an inspection looked at its mounts and files
	ran       bool               // its command was executed, so that all is mounted
	table     mountTable         // of the first look
	lost      status.Differences // differences of its mounts
	stale     status.Differences // its sources that were replaced, as of the last close look
	namespace uint64             // id of its mount namespace; 0 if unknown
	list      fingerprint        // of its mounts at the last look
	details   fingerprint        // of its mounts at the last close look

	dir                    dirTime // of its directory at the last look
	rootLinkGone, rootGone bool    // there is no root, or none that leads there
	recordGone             bool    // there is no boot record
	pipeGone               bool    // a missing pipe was logged
	mergedGone             bool    // that its merged root is not mounted on the host was logged
}

// mountsMayDiffer reports whether the mounts may differ from those at the last look. The
// first look only stores their fingerprint.
func (p *fingerprinter) mountsMayDiffer(s *seen, pid int, closely bool) bool {
	if s.namespace == 0 {
		s.namespace = mountNamespaceID(pid)
	}
	if s.namespace == 0 { // an older kernel
		now, ok := s.details, closely
		if closely {
			now, ok = p.table(pid)
		}
		differ := ok && now != s.details
		s.details = now
		return differ
	}
	list, ok := p.list(s.namespace)
	if !ok {
		return false // it is dead
	}
	differ := s.list != 0 && list != s.list
	s.list = list
	if closely {
		details, ok := p.details(s.namespace)
		differ = differ || !ok || details != s.details
		s.details = details
	}
	return differ
}

// fingerprint is a hash of the mounts of a process. It costs the kernel far less than
// printing the mount table. Only fingerprints of the same process can be compared.
type fingerprint uint64

// fingerprinter hashes mount tables. It reuses its buffers, so it serves one inspection at a
// time.
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

// mountNamespaceID returns the id of a process's mount namespace, which no other namespace ever
// gets; 0 where the kernel has no such ids (before Linux 6.11).
func mountNamespaceID(pid int) uint64 {
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

// list returns a fingerprint of the ids of all mounts; no id is used twice (listmount,
// Linux 6.8).
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

// details returns a fingerprint of the ids and options of all mounts.
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

// table returns a fingerprint of the whole table as the kernel prints it.
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
