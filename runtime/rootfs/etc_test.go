package rootfs

import (
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The /etc of a host root follows the host, file by file, except for what the container changed
// or deleted itself.
func TestEtcFollowsTheHost(t *testing.T) {
	dir := t.TempDir()
	etc, record := dir+"/upper/etc", dir+"/etc.json"
	if err := os.MkdirAll(etc, 0o755); err != nil {
		t.Fatal(err)
	}
	host := map[string]string{"passwd": "root\n", "group": "root\n", "services": "http\n", "resolv.conf": "old\n", "localtime": linkMark + "/usr/share/zoneinfo/UTC", "mime.types": "old\n", "shells": "sh\n", "protocols": "ip\n"}
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(updateEtc(dir+"/upper", record, host))
	must(os.WriteFile(etc+"/passwd", []byte("root\nmine\n"), 0o644))
	must(os.Remove(etc + "/services"))
	must(os.Remove(etc + "/group"))
	must(os.Symlink("/etc/shadow", etc+"/group"))
	must(os.Chmod(etc+"/mime.types", 0o640))
	must(os.Chown(etc+"/mime.types", os.Getuid(), os.Getgid()))
	must(os.Remove(etc + "/protocols"))
	must(unix.Mkfifo(etc+"/protocols", 0o644))

	now := maps.Clone(host)
	for name := range now {
		now[name] = "new\n"
	}
	now["localtime"] = linkMark + "/usr/share/zoneinfo/Europe/Berlin"
	now["os-release"] = "new\n"
	delete(now, "shells")
	must(updateEtc(dir+"/upper", record, now))
	want := map[string]string{
		"passwd": "root\nmine\n", "resolv.conf": "new\n", "localtime": "-> /usr/share/zoneinfo/Europe/Berlin", "mime.types": "new\n",
		"os-release": "new\n", "group": "-> /etc/shadow", "protocols": "fifo",
	}
	compareEtc(t, etc, want)
	if st, err := os.Stat(etc + "/mime.types"); err != nil || st.Mode().Perm() != 0o640 {
		t.Errorf("a mode that the container gave: %v %v", st, err)
	}

	// A start that was interrupted after the first file: what it wrote is still stead's.
	must(os.WriteFile(record, []byte(`{"wanted":"","files":{"resolv.conf":["`+fingerprint("new\n")+`","`+fingerprint("half\n")+`"]}}`), 0o600))
	must(os.WriteFile(etc+"/resolv.conf", []byte("half\n"), 0o644))
	now["resolv.conf"] = "newest\n"
	must(updateEtc(dir+"/upper", record, now))
	want["resolv.conf"], want["services"] = "newest\n", "new\n" // this record does not know of services
	compareEtc(t, etc, want)

	// The container can't make the update write elsewhere.
	must(os.Rename(etc, dir+"/upper/old"))
	must(os.Symlink("../../outside", etc))
	must(os.Mkdir(dir+"/outside", 0o755))
	now["resolv.conf"] = "escaped\n"
	if err := updateEtc(dir+"/upper", record, now); err == nil {
		t.Error("an /etc that leads out of the root: no error")
	}
	compareEtc(t, dir+"/outside", map[string]string{})
}

func compareEtc(t *testing.T, etc string, want map[string]string) {
	t.Helper()
	entries, err := os.ReadDir(etc)
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, e := range entries {
		path := filepath.Join(etc, e.Name())
		switch {
		case e.Type() == os.ModeSymlink:
			target, _ := os.Readlink(path)
			got[e.Name()] = "-> " + target
		case e.Type() == os.ModeNamedPipe:
			got[e.Name()] = "fifo"
		default:
			b, _ := os.ReadFile(path)
			got[e.Name()] = string(b)
		}
	}
	if !maps.Equal(got, want) {
		t.Errorf("%s: %q, want %q", etc, got, want)
	}
}

func TestHosts(t *testing.T) {
	if got := (Names{Hostname: "web.example.com"}).Hosts(); !strings.HasSuffix(got, "\n127.0.1.1\tweb.example.com web\n") || !strings.HasPrefix(got, "127.0.0.1\tlocalhost\n") {
		t.Errorf("%q", got)
	}
	host, err := os.ReadFile("/etc/hosts")
	if err != nil {
		t.Skip(err)
	}
	if got := (Names{Hostname: "web", HostNetwork: true}).Hosts(); !strings.HasPrefix(got, strings.TrimSpace(string(host))) || !strings.HasSuffix(got, "\n127.0.1.1\tweb\n") {
		t.Errorf("on the host's network: %q", got)
	}
	if got := (Names{Hostname: "localhost"}).Hosts(); strings.Contains(got, "127.0.1.1") {
		t.Errorf("a name that is there: %q", got)
	}
}
