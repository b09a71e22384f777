package rootfs

import (
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

// A host root has the modes that it is meant to have, whatever the umask of who made it; one
// that an earlier stead made with a strict umask gets them back.
func TestHostRootUnderAStrictUmask(t *testing.T) {
	before := unix.Umask(0o077)
	defer unix.Umask(before)
	dir := filepath.Join(t.TempDir(), "upper")
	want := func(when string) {
		t.Helper()
		for name, mode := range map[string]os.FileMode{".": 0o755, "etc": 0o755, "var": 0o755, "root": 0o700, "etc/passwd": 0o644, "etc/hosts": 0o644} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != mode {
				t.Errorf("%s: %s: %v %v, want mode %o", when, name, st, err, mode)
			}
		}
	}
	make := func() {
		t.Helper()
		if err := new(HostEtc).Prepare(dir, Names{Hostname: "web"}); err != nil {
			t.Fatal(err)
		}
	}
	make()
	want("new")
	for name, mode := range map[string]os.FileMode{"etc/passwd": 0o600, "etc/hosts": 0o600, "etc": 0o700, "var": 0o700, ".": 0o700} { // as before
		if err := os.Chmod(filepath.Join(dir, name), mode); err != nil {
			t.Fatal(err)
		}
	}
	make()
	want("repaired")
	if err := os.Chmod(filepath.Join(dir, "var"), 0o700); err != nil { // what the container chose
		t.Fatal(err)
	}
	make()
	if st, err := os.Stat(filepath.Join(dir, "var")); err != nil || st.Mode().Perm() != 0o700 {
		t.Errorf("a mode that the container chose: %v %v", st, err)
	}
}

// Whoever deletes the private files of a host root gets a new root, with its /etc.
func TestHostRootMadeAgain(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "upper")
	for range 2 {
		if err := new(HostEtc).Prepare(dir, Names{Hostname: "web"}); err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"etc/passwd", "etc/hostname"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				t.Error(err)
			}
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
	}
}
