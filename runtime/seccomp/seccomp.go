// Package seccomp compiles the default profile that Docker and Podman share into a BPF program
// for one set of capabilities, without cgo. It knows no containers.
package seccomp

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

var compiled sync.Map // capabilities joined → []byte

// Default returns the default profile as an array of struct sock_filter (8
// bytes each, host byte order) for a process whose bounding set is caps
// ("CAP_NET_ADMIN", …). The allowed calls depend on caps and on the version of the running
// kernel. The caller must not change the result.
func Default(caps []string) ([]byte, error) {
	key := fmt.Sprint(caps)
	if p, ok := compiled.Load(key); ok {
		return p.([]byte), nil
	}
	oci, err := profile.GetDefaultProfile(&specs.Spec{Process: &specs.Process{
		Capabilities: &specs.LinuxCapabilities{Bounding: caps},
	}})
	if err != nil {
		return nil, fmt.Errorf("read default seccomp profile: %w", err)
	}
	p, err := compile(oci)
	if err != nil {
		return nil, fmt.Errorf("assemble default seccomp profile: %w", err)
	}
	compiled.Store(key, p)
	return p, nil
}

func compile(oci *specs.LinuxSeccomp) ([]byte, error) {
	otherwise, err := action(oci.DefaultAction, oci.DefaultErrnoRet)
	if err != nil {
		return nil, err
	}
	all, err := verdicts(oci.Syscalls, otherwise)
	if err != nil {
		return nil, err
	}
	return assemble(all, otherwise)
}

// rule is an action that applies if all conditions hold.
type rule struct {
	conditions []specs.LinuxSeccompArg
	action     uint32 // SECCOMP_RET_… with its data
}

// verdict decides about one system call: the first rule that holds applies, else the action
// otherwise.
type verdict struct {
	rules     []rule
	otherwise uint32
}

// verdicts returns the verdicts of all system calls, by number. The actions apply in the order
// in which the profile first names them. If an action lists a name without conditions
// anywhere, its conditional rules for that name are not needed. Names that this
// architecture does not have are ignored.
func verdicts(list []specs.LinuxSyscall, otherwise uint32) ([]verdict, error) {
	var actions []uint32
	of := make([]uint32, len(list))
	for i, l := range list {
		a, err := action(l.Action, l.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if of[i] = a; !slices.Contains(actions, a) {
			actions = append(actions, a)
		}
	}
	highest := slices.MaxFunc(numbers, func(a, b call) int { return int(a.nr) - int(b.nr) }).nr
	all := make([]verdict, highest+1)
	settled := make([]bool, len(all))
	for i := range all {
		all[i].otherwise = otherwise
	}
	for _, a := range actions {
		for i, l := range list { // first those without conditions
			for _, n := range l.Names {
				if nr, ok := number(n); ok && of[i] == a && len(l.Args) == 0 && !settled[nr] {
					all[nr].otherwise, settled[nr] = a, true
				}
			}
		}
		for i, l := range list {
			for _, n := range l.Names {
				if nr, ok := number(n); ok && of[i] == a && len(l.Args) > 0 && !settled[nr] {
					all[nr].rules = append(all[nr].rules, rule{l.Args, a})
				}
			}
		}
	}
	return all, nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (uint32, error) {
	switch a {
	case specs.ActAllow:
		return unix.SECCOMP_RET_ALLOW, nil
	case specs.ActErrno:
		if errno == nil {
			return unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM), nil
		}
		return unix.SECCOMP_RET_ERRNO | uint32(*errno), nil
	case specs.ActLog:
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

// call is a system call of this architecture. numbers_*.go hold all calls, sorted by name.
type call struct {
	name string
	nr   uint16
}

func number(name string) (int, bool) {
	i, ok := slices.BinarySearchFunc(numbers, name, func(c call, name string) int { return strings.Compare(c.name, name) })
	if !ok {
		return 0, false
	}
	return int(numbers[i].nr), true
}
