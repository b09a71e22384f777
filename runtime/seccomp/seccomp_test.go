package seccomp

import (
	"bytes"
	"testing"

	netbpf "golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"encoding/binary"
)

const (
	allow = 0x7fff0000
	errno = 0x00050000
)

// run evaluates the program for a call, as the kernel would.
func run(t *testing.T, program []byte, nr uint32, args ...uint64) uint32 {
	t.Helper()
	var raw []netbpf.RawInstruction
	for r := bytes.NewReader(program); r.Len() > 0; {
		var i netbpf.RawInstruction
		if err := binary.Read(r, binary.NativeEndian, &i); err != nil {
			t.Fatal(err)
		}
		raw = append(raw, i)
	}
	ins, ok := netbpf.Disassemble(raw)
	if !ok {
		t.Fatal("program has an unknown instruction")
	}
	vm, err := netbpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	// The VM reads big-endian words; struct seccomp_data has native ones.
	data := binary.BigEndian.AppendUint32(nil, nr)
	data = binary.BigEndian.AppendUint32(data, unix.AUDIT_ARCH_X86_64)
	data = binary.BigEndian.AppendUint64(data, 0)
	for i := range 6 {
		var a uint64
		if i < len(args) {
			a = args[i]
		}
		data = binary.BigEndian.AppendUint32(data, uint32(a))
		data = binary.BigEndian.AppendUint32(data, uint32(a>>32))
	}
	out, err := vm.Run(data)
	if err != nil {
		t.Fatal(err)
	}
	return uint32(out)
}

func TestDefault(t *testing.T) {
	plain, err := Default([]string{"CAP_CHOWN"})
	if err != nil {
		t.Fatal(err)
	}
	admin, err := Default([]string{"CAP_CHOWN", "CAP_SYS_ADMIN"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		summary string
		program []byte
		nr      uint32
		args    []uint64
		want    uint32
	}{
		{"read", plain, unix.SYS_READ, nil, allow},
		{"mount needs SYS_ADMIN", plain, unix.SYS_MOUNT, nil, errno | uint32(unix.EPERM)},
		{"mount with SYS_ADMIN", admin, unix.SYS_MOUNT, nil, allow},
		{"clone for a thread", plain, unix.SYS_CLONE, []uint64{unix.CLONE_VM | unix.CLONE_THREAD}, allow},
		{"clone with a user namespace", plain, unix.SYS_CLONE, []uint64{unix.CLONE_NEWUSER}, errno | uint32(unix.EPERM)},
		{"clone3 says ENOSYS, so that libc falls back to clone", plain, unix.SYS_CLONE3, nil, errno | uint32(unix.ENOSYS)},
		{"personality(PER_LINUX)", plain, unix.SYS_PERSONALITY, []uint64{0}, allow},
		{"personality(something odd)", plain, unix.SYS_PERSONALITY, []uint64{0x1234}, errno | uint32(unix.EPERM)},
		{"keyctl", plain, unix.SYS_KEYCTL, nil, errno | uint32(unix.EPERM)},
		{"init_module even with SYS_ADMIN", admin, unix.SYS_INIT_MODULE, nil, errno | uint32(unix.EPERM)},
		{"x32 calls", plain, 0x40000000 | unix.SYS_READ, nil, errno | uint32(unix.ENOSYS)},
	}
	for _, tt := range tests {
		if got := run(t, tt.program, tt.nr, tt.args...); got != tt.want {
			t.Errorf("%s: got %#x, want %#x", tt.summary, got, tt.want)
		}
	}
}
