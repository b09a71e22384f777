package launch

import (
	"fmt"
	"strings"
	"syscall"
	"unsafe"
)

// Config describes one container to start, with all names resolved. Host paths are absolute;
// links in the paths of root and sources are not followed. Target and WorkingDir are
// paths inside the root.
type Config struct {
	Name  string // of the container
	Nonce string // of this start; names the root in the nursery

	Root    Root
	Mounts  []Mount  // parents before children
	Devices []Device // besides those that every container has
	Cgroups []string // directories; the process joins them before anything else
	// CgroupInto is the v2 cgroup directory into which the process is cloned; "" if none.
	CgroupInto string

	IDBase      uint32 // host id of the container's id 0; 0 is no user namespace
	HostNetwork bool
	HostPids    bool `json:",omitempty"` // it shares the host's pid namespace
	Hostname    string
	ShmSize     int64    `json:",omitempty"` // of /dev/shm, bytes; 0 is 64 MiB
	Sysctls     []Sysctl `json:",omitempty"` // of its own namespaces

	Process Process

	Stdout, Stderr string // FIFOs of the host
	Ran            string // file of the host that gets one byte right before execve
}

// Process describes a command, its user and its rights. Start and Exec use it.
type Process struct {
	Argv []string
	// Paths are tried in order, as execvp(3) does, until one can be executed.
	Paths      []string
	Env        []string
	WorkingDir string
	UID, GID   uint32
	Groups     []uint32
	Caps       Caps
	NoNewPrivs bool
	Seccomp    []byte   // struct sock_filter array; empty is unconfined
	Rlimits    []Rlimit // that differ from defaultLimits
	Init       bool     // a reaping first process before the command
}

// Caps holds sets of capabilities, bit N for capability N.
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
	Usr      string // host directory that is mounted read-only at /usr; "" if none
	// Merged is the mount at Path if that is a merged root (Overlay), whose ids are mapped
	// already; nil for a directory.
	Merged *Mounted `json:",omitempty"`
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

	Recursive  bool `json:",omitempty"` // with the mounts below the source
	Slave      bool `json:",omitempty"` // and with those that the host mounts there later
	NoIDMap    bool `json:",omitempty"` // ids are not mapped
	MountPoint bool `json:",omitempty"` // the source must be a mount point
	Symlink    bool `json:",omitempty"` // the source is a symbolic link, which is mounted itself

	Create *Directory `json:"-"` // how to create a missing source before the launch
}

// Directory describes a directory to create. The ids are those inside the container.
type Directory struct {
	UID, GID uint32
	Mode     uint32
}

// Device is a device node. The container's cgroup limits the access to the device.
type Device struct {
	Name   string // below /dev: "fuse", "net/tun"
	Mode   uint32 // type and permissions
	Dev    uint64
	UID    uint32 `json:",omitempty"` // inside
	GID    uint32 `json:",omitempty"`
	Access string `json:"-"` // "r", "w" or "rw", for the container's cgroup
}

// Where is the part of the configuration that a failed step belongs to.
type Where string

const (
	AtRoot    Where = "root"
	AtSource  Where = "mount source"
	AtTarget  Where = "mount target"
	AtIDMap   Where = "id map"
	AtCommand Where = "command"
	AtStep    Where = "step"
)

// Error is a failed step of a start or an exec.
type Error struct {
	Where Where
	Step  string // "mount /srv/data at /data", "set ulimit nofile"
	Errno syscall.Errno
	Hint  string // more about the cause than the errno tells; "" if nothing is known
}

func (e *Error) Error() string {
	s := fmt.Sprintf("%s: %s", e.Step, e.Errno.Error())
	if e.Hint != "" {
		s += " (" + e.Hint + ")"
	}
	return s
}

func (e *Error) Unwrap() error { return e.Errno }

// ExitCode returns the exit code of a launch that failed, as Podman has it: 127 if there is no
// such command, 126 if it can't be executed, and 125 for everything else.
func ExitCode(where Where, errno syscall.Errno) int {
	switch {
	case where != AtCommand:
		return 125
	case errno == syscall.ENOENT:
		return 127
	}
	return 126
}

// check refuses NUL bytes, bad device names and an empty command. Everything else was
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

// size returns an upper bound of the bytes that the configuration needs in a program's
// memory.
func (c *Config) size() int {
	n := c.Process.size() + len(c.Hostname)
	for _, d := range c.Devices {
		n += len(d.Name)*(strings.Count(d.Name, "/")+2) + 512 // its paths and those of its parent directories
	}
	return n + c.moreCalls()*int(unsafe.Sizeof(call{}))
}

// moreCalls returns an upper bound of the calls that devices add to a program.
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
			n += len(s) + 32 // alignment, and its entry in an array
		}
	}
	return n
}
