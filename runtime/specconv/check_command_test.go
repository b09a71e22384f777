package specconv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/launch"
)

// The command is found as the container would find it: through links, in mounts.
func TestCheckCommand(t *testing.T) {
	dir := t.TempDir()
	for _, d := range []string{"root/usr", "root/opt/real", "root/bare", "host/bin", "tool"} {
		os.MkdirAll(filepath.Join(dir, d), 0o755)
	}
	for _, f := range []string{"root/opt/real/run", "host/bin/sh", "tool/x"} {
		os.WriteFile(filepath.Join(dir, f), nil, 0o755)
	}
	os.WriteFile(filepath.Join(dir, "root/bare/data"), nil, 0o644)
	for link, target := range map[string]string{"bin": "usr/bin", "opt/link": "/opt/real", "out": "/../../../bin", "loop": "loop", "abs": "/usr/bin/sh"} {
		os.Symlink(target, filepath.Join(dir, "root", link))
	}
	v := view{root: dir + "/root", mounts: map[string]string{"/usr": dir + "/host", "/tool": dir + "/tool", "/mem": "", "/one": dir + "/tool/x"}}
	for path, want := range map[string]string{
		"/usr/bin/sh": "", "/bin/sh": "", "/abs": "", "/opt/link/run": "", "/tool/x": "", "/one": "", "/mem/anything": "",
		"/tool/y": "no such file", "/opt/run": "no such file", "/loop": "no such file", "/bare/data": "permission denied",
		"/out/sh": "", // .. ends at the root: it is /bin/sh of the container
		"/out/ls": "no such file",
	} {
		err := v.checkCommand(launch.Process{Argv: []string{path}, Paths: []string{path}, WorkingDir: "/"})
		if (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", path, err, want)
		}
	}
}
