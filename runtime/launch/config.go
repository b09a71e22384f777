package launch

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"
)

// Config is one container to start, all names resolved. Paths of the host are
// absolute, and no links are followed to root and sources; Target and WorkingDir
// are paths inside the root.
type Config struct {
	Name  string // of the container
	Nonce string // of this start; names the root in the nursery

	Root    Root
	Mounts  []Mount  // parents before children
	Devices []Device // besides those that every container has
	Cgroups []string // directories; the process joins them before anything else
	// CgroupFD is the v2 directory to be cloned into instead; "" if none.
	CgroupInto string

	IDBase      uint32 // host id of the container's id 0; 0 is no user namespace
	HostNetwork bool
	HostPids    bool `json:",omitempty"` // no pid namespace of its own
	Hostname    string
	ShmSize     int64    `json:",omitempty"` // of /dev/shm, bytes; 0 is 64 MiB
	Sysctls     []Sysctl `json:",omitempty"` // of its own namespaces

	Process Process

	Stdout, Stderr string // FIFOs of the host
	Ran            string // file of the host that gets one byte right before execve
}

// Process is what is executed and as whom; shared by start and exec.
type Process struct {
	Argv []string
	// Paths are tried in order as execvp(3) would, the first that can be
	// executed wins.
	Paths      []string
	Env        []string
	WorkingDir string
	UID, GID   uint32
	Groups     []uint32
	Caps       Caps
	NoNewPrivs bool
	Seccomp    []byte   // struct sock_filter array; empty is unconfined
	Rlimits    []Rlimit // those that differ from defaultLimits
	Init       bool     // a reaping first process before the command
}

// Caps are sets of capabilities, bit N for capability N.
type Caps struct {
	Bounding  uint64
	Effective uint64 // and permitted
	Ambient   uint64 // and inheritable; for users other than root
}

// Sysctl is a kernel setting of a namespace.
type Sysctl struct{ Name, Value string }

// Rlimit is a resource limit.
type Rlimit struct {
	Name       string
	Resource   int
	Soft, Hard uint64
}

// Root is the container's root directory.
type Root struct {
	Path     string
	ReadOnly bool
	Usr      string // host directory to be shown read-only at /usr; "" if none
}

// Mount is a bind or a tmpfs.
type Mount struct {
	Target   string
	Source   string // "" is a tmpfs
	ReadOnly bool
	Size     int64 // of a tmpfs, bytes
	Mode     uint32
	UID      uint32 `json:",omitempty"` // owner of a tmpfs, inside
	GID      uint32 `json:",omitempty"`

	Recursive  bool `json:",omitempty"` // what is mounted below the source comes along
	Slave      bool `json:",omitempty"` // and what the host mounts there later
	NoIDMap    bool `json:",omitempty"` // ids are as on the host
	MountPoint bool `json:",omitempty"` // the source must be one

	Create *Directory `json:"-"` // the source is made like this before the launch if it is not there
}

// Directory is one to be made, its owner as the container has it.
type Directory struct {
	UID, GID uint32
	Mode     uint32
}

// Device is a device node. What may be done with it is the cgroup's to keep.
type Device struct {
	Name   string // below /dev: "fuse", "net/tun"
	Mode   uint32 // type and permissions
	Dev    uint64
	UID    uint32 `json:",omitempty"` // inside
	GID    uint32 `json:",omitempty"`
	Access string `json:"-"` // "r", "w" or "rw": what the container's cgroup is to allow
}

// Where says which part of the configuration a failed step is about.
type Where string

const (
	AtRoot    Where = "root"
	AtSource  Where = "mount source"
	AtTarget  Where = "mount target"
	AtIDMap   Where = "id map"
	AtCommand Where = "command"
	AtStep    Where = "step"
)

// Error is a start that failed.
type Error struct {
	Where Where
	Step  string // "mount /srv/data at /data", "set ulimit nofile"
	Errno syscall.Errno
	Hint  string // what it means here, if more is known than the errno tells
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Step, e.Errno.Error())
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Errno }

// check refuses what can't be put into a C string: everything else was
// validated where the names were resolved.
func (c *Config) check() error {
	all := append([]string{c.Root.Path, c.Hostname, c.Process.WorkingDir, c.Stdout, c.Stderr, c.Ran}, c.Process.Argv...)
	all = append(append(all, c.Process.Env...), c.Process.Paths...)
	for _, m := range c.Mounts {
		all = append(all, m.Source, m.Target)
	}
	for _, d := range c.Devices {
		all = append(all, d.Name)
	}
	for _, s := range c.Sysctls {
		all = append(all, s.Name, s.Value)
	}
	for _, s := range all {
		if strings.IndexByte(s, 0) >= 0 {
			return &Error{AtStep, fmt.Sprintf("read %q", s), syscall.EINVAL, "NUL byte"}
		}
	}
	if err := checkDevices(c.Devices); err != nil {
		return err
	}
	if len(c.Process.Argv) == 0 || len(c.Process.Paths) == 0 {
		return &Error{AtCommand, "read command", syscall.EINVAL, "empty"}
	}
	return nil
}

// size is an upper bound of what the configuration takes in a program's memory.
func (c *Config) size() int {
	n := c.Process.size() + len(c.Hostname)
	for _, d := range c.Devices {
		n += len(d.Name)*(strings.Count(d.Name, "/")+2) + 512 // its paths and those of the directories above it
	}
	return n + c.moreCalls()*int(unsafe.Sizeof(call{}))
}

// moreCalls is an upper bound of the calls that devices add to a program.
func (c *Config) moreCalls() (n int) {
	for _, d := range c.Devices {
		n += 5 + strings.Count(d.Name, "/")
	}
	return n
}

func (p *Process) size() int {
	n := len(p.Seccomp) + 4*len(p.Groups) + len(p.WorkingDir)
	for _, list := range [][]string{p.Argv, p.Env, p.Paths} {
		for _, s := range list {
			n += len(s) + 32 // alignment, and its place in an array
		}
	}
	return n
}
