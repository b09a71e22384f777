// Package seccomp turns the default profile that Docker and Podman share into
// a BPF program for one set of capabilities, without cgo. It knows nothing of
// containers.
package seccomp

import (
	"encoding/binary"
	"fmt"
	"sync"

	bpf "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	profile "github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

var compiled sync.Map // capabilities joined → []byte

// Default returns the default profile as an array of struct sock_filter (8
// bytes each, host byte order) for a process whose bounding set holds caps
// ("CAP_NET_ADMIN", …). Which calls are let through depends on them and on the
// running kernel's version. The result is shared: it must not be written.
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
	p, err := assemble(oci)
	if err != nil {
		return nil, fmt.Errorf("assemble default seccomp profile: %w", err)
	}
	compiled.Store(key, p)
	return p, nil
}

func assemble(oci *specs.LinuxSeccomp) ([]byte, error) {
	policy := bpf.Policy{}
	var err error
	if policy.DefaultAction, err = action(oci.DefaultAction, oci.DefaultErrnoRet); err != nil {
		return nil, err
	}
	if policy.Syscalls, err = groups(oci.Syscalls); err != nil {
		return nil, err
	}
	program, err := policy.Assemble()
	if err != nil {
		return nil, err
	}
	raw, err := netbpf.Assemble(program)
	if err != nil {
		return nil, err
	}
	out := make([]byte, 0, 8*len(raw))
	for _, i := range raw {
		out = binary.NativeEndian.AppendUint16(out, i.Op)
		out = append(out, i.Jt, i.Jf)
		out = binary.NativeEndian.AppendUint32(out, i.K)
	}
	return out, nil
}

// groups keeps the profile's order, one group for each action. A name that is
// listed without conditions anywhere under the same action needs none of its
// conditional rules; names that this architecture lacks are left out.
func groups(rules []specs.LinuxSyscall) ([]bpf.SyscallGroup, error) {
	machine, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	var out []bpf.SyscallGroup
	at := map[bpf.Action]int{}
	free := map[bpf.Action]map[string]bool{}
	for _, r := range rules {
		a, err := action(r.Action, r.ErrnoRet)
		if err != nil {
			return nil, err
		}
		if _, ok := at[a]; !ok {
			at[a], free[a] = len(out), map[string]bool{}
			out = append(out, bpf.SyscallGroup{Action: a})
		}
		if len(r.Args) > 0 {
			continue
		}
		for _, n := range r.Names {
			if _, ok := machine.SyscallNames[n]; ok && !free[a][n] {
				free[a][n] = true
				out[at[a]].Names = append(out[at[a]].Names, n)
			}
		}
	}
	for _, r := range rules {
		if len(r.Args) == 0 {
			continue
		}
		a, _ := action(r.Action, r.ErrnoRet)
		conditions, err := conditions(r.Args)
		if err != nil {
			return nil, fmt.Errorf("rule for %v: %w", r.Names, err)
		}
		for _, n := range r.Names {
			if _, ok := machine.SyscallNames[n]; ok && !free[a][n] {
				g := &out[at[a]]
				g.NamesWithCondtions = append(g.NamesWithCondtions, bpf.NameWithConditions{Name: n, Conditions: conditions})
			}
		}
	}
	return out, nil
}

func action(a specs.LinuxSeccompAction, errno *uint) (bpf.Action, error) {
	switch a {
	case specs.ActAllow:
		return bpf.ActionAllow, nil
	case specs.ActErrno:
		if errno == nil || *errno == uint(unix.EPERM) {
			return bpf.ActionErrno, nil // which the assembler completes to EPERM
		}
		return bpf.ActionErrno | bpf.Action(*errno), nil
	case specs.ActLog:
		return bpf.ActionLog, nil
	}
	return 0, fmt.Errorf("unknown action %q", a)
}

func conditions(args []specs.LinuxSeccompArg) (bpf.ArgumentConditions, error) {
	operation := map[specs.LinuxSeccompOperator]bpf.Operation{
		specs.OpEqualTo: bpf.Equal, specs.OpNotEqual: bpf.NotEqual,
		specs.OpLessThan: bpf.LessThan, specs.OpLessEqual: bpf.LessOrEqual,
		specs.OpGreaterThan: bpf.GreaterThan, specs.OpGreaterEqual: bpf.GreaterOrEqual,
	}
	var out bpf.ArgumentConditions
	for _, a := range args {
		op, ok := operation[a.Op]
		if a.Op == specs.OpMaskedEqual && a.ValueTwo == 0 {
			op, ok = bpf.BitsNotSet, true // (argument & mask) == 0
		}
		if !ok {
			return nil, fmt.Errorf("unknown comparison %s", a.Op)
		}
		out = append(out, bpf.Condition{Argument: uint32(a.Index), Operation: op, Value: a.Value})
	}
	return out, nil
}
