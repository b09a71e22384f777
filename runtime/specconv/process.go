package specconv

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"stead/runtime/launch"
	"stead/runtime/rootfs"
	"stead/runtime/seccomp"
	"stead/spec"

	"github.com/moby/sys/capability"
	"golang.org/x/sys/unix"
)

// AtUser is the place of a failure to find a user or group. Package launch has the other
// places.
const AtUser launch.Where = "user"

// AtImage is the place of a failure to find the image of a root.
const AtImage launch.Where = "image"

// defaultCapabilities are the fourteen default capabilities of Docker and Podman.
var defaultCapabilities = []string{
	"CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID",
	"SETFCAP", "SETPCAP", "NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE",
}

// Process returns the process of a container. It looks up its user in the root on the host.
func Process(c *spec.Container, root string) (launch.Process, error) {
	s := &c.Spec
	groups := make([]string, len(s.Groups))
	for i, g := range s.Groups {
		groups[i] = string(g)
	}
	who, err := rootfs.LookUp(root, string(s.User), groups)
	if err != nil {
		return launch.Process{}, &Error{AtUser, err.Error()}
	}
	env := environment(c, who.Home)
	p := launch.Process{
		Argv: append(slices.Clone(s.Command), s.Args...), Env: env, WorkingDir: s.WorkingDir,
		UID: who.UID, GID: who.GID, Groups: who.Groups,
		NoNewPrivs: s.Security.NoNewPrivileges == nil || *s.Security.NoNewPrivileges,
		Rlimits:    rlimits(s.Ulimits),
		Init:       s.Init,
	}
	if len(p.Argv) == 0 {
		return launch.Process{}, &Error{launch.AtCommand, "neither the manifest nor the image names a command"}
	}
	p.Paths = launch.Candidates(p.Argv[0], env)
	names := capabilities(s.Security.Capabilities)
	p.Caps = capSets(names, s.Security.Capabilities.Add, who.UID)
	if s.Security.Seccomp != "unconfined" {
		if p.Seccomp, err = seccomp.Default(names); err != nil {
			return launch.Process{}, err
		}
	}
	return p, nil
}

// environment returns the default variables with those of the manifest over them.
func environment(c *spec.Container, home string) []string {
	env := map[string]string{"PATH": launch.DefaultPath, "HOME": home, "HOSTNAME": c.Spec.Hostname, "container": "stead"}
	for k, v := range c.Spec.Env {
		env[k] = string(v)
	}
	env["STEAD_NAME"] = c.Metadata.Name
	if c.Replica != nil {
		env["STEAD_INDEX"] = strconv.Itoa(c.Replica.Index)
	}
	all := make([]string, 0, len(env))
	for k, v := range env {
		all = append(all, k+"="+v)
	}
	slices.Sort(all)
	return all
}

// capabilities returns the names of the capabilities that are kept, with CAP_, sorted.
func capabilities(c spec.Capabilities) []string {
	keep := map[string]bool{}
	for _, n := range defaultCapabilities {
		keep[n] = true
	}
	all := allCapabilities()
	if slices.Contains(c.Drop, "ALL") {
		clear(keep)
	}
	if slices.Contains(c.Add, "ALL") {
		for n := range all {
			keep[n] = true
		}
	}
	for _, n := range c.Add {
		keep[n] = true
	}
	for _, n := range c.Drop {
		delete(keep, n)
	}
	var names []string
	for n := range keep {
		if _, known := all[n]; known {
			names = append(names, "CAP_"+n)
		}
	}
	slices.Sort(names)
	return names
}

// allCapabilities returns the capabilities of the running kernel, by name without CAP_.
var allCapabilities = sync.OnceValue(func() map[string]uint {
	all := map[string]uint{}
	last, err := capability.LastCap()
	if err != nil {
		last = capability.CAP_CHECKPOINT_RESTORE
	}
	for _, c := range capability.ListKnown() {
		if c <= last {
			all[strings.ToUpper(c.String())] = uint(c)
		}
	}
	return all
})

// capSets returns the capability sets of a user. For root all are in effect. Another user
// has only those that the manifest adds, as ambient ones, so that they outlast execve.
func capSets(names, added []string, uid uint32) launch.Caps {
	var c launch.Caps
	all := allCapabilities()
	for _, n := range names {
		bit := uint64(1) << all[strings.TrimPrefix(n, "CAP_")]
		c.Bounding |= bit
		if uid == 0 {
			c.Effective |= bit
		} else if slices.Contains(added, strings.TrimPrefix(n, "CAP_")) || slices.Contains(added, "ALL") {
			c.Ambient |= bit
		}
	}
	return c
}

// limitNames are setrlimit(2)'s, in lower case.
var limitNames = map[string]int{
	"as": unix.RLIMIT_AS, "core": unix.RLIMIT_CORE, "cpu": unix.RLIMIT_CPU, "data": unix.RLIMIT_DATA,
	"fsize": unix.RLIMIT_FSIZE, "locks": unix.RLIMIT_LOCKS, "memlock": unix.RLIMIT_MEMLOCK,
	"msgqueue": unix.RLIMIT_MSGQUEUE, "nice": unix.RLIMIT_NICE, "nofile": unix.RLIMIT_NOFILE,
	"nproc": unix.RLIMIT_NPROC, "rss": unix.RLIMIT_RSS, "rtprio": unix.RLIMIT_RTPRIO,
	"rttime": unix.RLIMIT_RTTIME, "sigpending": unix.RLIMIT_SIGPENDING, "stack": unix.RLIMIT_STACK,
}

func rlimits(limits map[string]spec.Ulimit) []launch.Rlimit {
	var all []launch.Rlimit
	for name, u := range limits {
		if r, ok := limitNames[name]; ok {
			all = append(all, launch.Rlimit{Name: name, Resource: r, Soft: uint64(u.Soft), Hard: uint64(u.Hard)}) // Unlimited is RLIM_INFINITY
		}
	}
	slices.SortFunc(all, func(a, b launch.Rlimit) int { return strings.Compare(a.Name, b.Name) })
	return all
}

// Signal returns the signal of a name without SIG.
func Signal(name string) (unix.Signal, error) {
	for prefix, base := range map[string]int{"RTMIN": 34, "RTMAX": 64} { // SIGRTMIN as libc counts it
		if offset, ok := strings.CutPrefix(name, prefix); ok {
			n, err := strconv.Atoi(cmp.Or(offset, "0")) // "+3" or "-3"
			if err == nil {
				return unix.Signal(base + n), nil
			}
		}
	}
	if s := unix.SignalNum("SIG" + name); s != 0 {
		return s, nil
	}
	return 0, fmt.Errorf("unknown signal %s", name)
}
