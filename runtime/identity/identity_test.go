package identity

import (
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// The files of an identity are made anew and work; what only has their names is left alone.
func TestRenew(t *testing.T) {
	base := t.TempDir()
	dir := base + "/root"
	for _, d := range []string{"/etc/ssh", "/var/lib/dbus"} {
		if err := os.MkdirAll(dir+d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write(t, base+"/outside", "outside")
	write(t, dir+"/etc/machine-id", strings.Repeat("a", 32)+"\n")
	if err := os.Symlink(base+"/outside", dir+"/var/lib/dbus/machine-id"); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(base+"/outside", dir+"/etc/ssh/ssh_host_evil_key"); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"rsa", "ecdsa", "ed25519", "dsa"} {
		write(t, dir+"/etc/ssh/ssh_host_"+kind+"_key", "old")
		write(t, dir+"/etc/ssh/ssh_host_"+kind+"_key.pub", "old")
	}
	write(t, dir+"/etc/ssh/sshd_config", "old")
	changed, err := Renew(dir)
	slices.Sort(changed)
	if want := "/etc/machine-id /etc/ssh/ssh_host_dsa_key /etc/ssh/ssh_host_ecdsa_key /etc/ssh/ssh_host_ed25519_key /etc/ssh/ssh_host_rsa_key"; err != nil || strings.Join(changed, " ") != want {
		t.Errorf("%v %v", changed, err)
	}
	read := func(name string) string {
		b, err := os.ReadFile(dir + name)
		if err != nil {
			t.Error(err)
		}
		return strings.TrimSpace(string(b))
	}
	if id := read("/etc/machine-id"); len(id) != 32 || strings.HasPrefix(id, "aa") {
		t.Errorf("machine-id %q", id)
	}
	if b, _ := os.ReadFile(base + "/outside"); string(b) != "outside" {
		t.Errorf("outside: %q", b)
	}
	if read("/etc/ssh/sshd_config") != "old" {
		t.Error("the configuration changed")
	}
	if _, err := os.Lstat(dir + "/etc/ssh/ssh_host_dsa_key"); err == nil {
		t.Error("a dsa key is left")
	}
	tool, err := exec.LookPath("ssh-keygen")
	if err != nil {
		t.Skip("ssh-keygen is not there to read the keys")
	}
	for _, kind := range []string{"rsa", "ecdsa", "ed25519"} {
		key := "/etc/ssh/ssh_host_" + kind + "_key"
		out, err := exec.Command(tool, "-y", "-f", dir+key).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != read(key+".pub") {
			t.Errorf("%s: %v\n%s\nwant\n%s", kind, err, out, read(key+".pub"))
		}
	}
}
