package main

import (
	"os"
	"testing"

	"stead/reconcile/view"
)

// A command that can't be executed has the same exit code in exec and at a start, whatever it is
// called.
func TestExitCodesOfCommands(t *testing.T) {
	h := newHost(t)
	bin := h.dir + "/bin"
	if err := os.Mkdir(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, mode := range map[string]os.FileMode{"plain": 0o644, "garbage": 0o755, "lost": 0o755} {
		text := map[string]string{"garbage": "\x7f\x00garbage", "lost": "#!/nonsuch/sh\n"}[name]
		writeFile(t, bin+"/"+name, text)
		if err := os.Chmod(bin+"/"+name, mode); err != nil {
			t.Fatal(err)
		}
	}
	named := func(name, command string) string {
		return "apiVersion: stead/v1\nkind: Container\nmetadata: {name: " + name + "}\nspec:\n  rootfs: {host: {}}\n  network: {mode: none}\n" +
			"  mounts: {/x: {source: " + bin + ", readOnly: true}}\n  restart: {policy: never}\n  command: [" + command + "]\n"
	}
	h.startDaemon()
	h.write("a.yaml", named("a", `sleep, "1000"`))
	h.until("a", "running", running)
	for _, row := range []struct {
		name, command string
		code          int
	}{
		{"missing", "/x/nonsuch", 127},
		{"in-path", "nonsuch", 127},
		{"interpreter", "/x/lost", 127},
		{"misleading", "/x/permission denied", 127},
		{"plain", "/x/plain", 126},
		{"garbage", "/x/garbage", 126},
		{"directory", "/x", 126},
		{"through-a-file", "/x/plain/sh", 127},
	} {
		if c := h.stead("exec", "a", row.command); c.code != row.code {
			t.Errorf("exec %s: code %d, want %d: %s", row.command, c.code, row.code, c.err)
		}
		h.write(row.name+".yaml", named(row.name, row.command))
		v := h.until(row.name, "failed", func(v view.Container) bool { return v.ExitCode != nil })
		if *v.ExitCode != row.code {
			t.Errorf("a start of %s: code %d, want %d: %s", row.command, *v.ExitCode, row.code, v.Why)
		}
	}
}
