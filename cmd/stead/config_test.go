package main

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/source"
	"stead/reconcile/view"
	"stead/runtime/image/registry"
)

const configHead = "apiVersion: stead/v1\nkind: Config\n"

func TestSettings(t *testing.T) {
	defaults := settings{manifests: searchPath, host: hostName(), trust: &source.Trust{}, settle: 5 * time.Second, retention: 30 * 24 * time.Hour}
	with := func(change func(*settings)) settings {
		s := defaults
		change(&s)
		return s
	}
	file := filepath.Join(t.TempDir(), "config.yaml")
	for _, test := range []struct {
		summary string
		file    string
		flags   flagValues
		want    settings
	}{
		{"nothing said", configHead, flagValues{}, defaults},
		{"all said by the file", configHead + "manifests: [/a, /b]\nhostName: web-1.example.com\nsettle: 1m\nretention: 1d\ntrustedOwners: [root, 1001]\nids: {first: 1000000, count: 655360}\nregistries: {docker.io: {mirrors: [a.example.com]}}\n", flagValues{},
			settings{[]string{"/a", "/b"}, "web-1.example.com", &source.Trust{Owners: []uint32{0, 1001}}, time.Minute, 24 * time.Hour, 1000000, 655360, map[string]registry.Settings{"docker.io": {Mirrors: []string{"a.example.com"}}}}},
		{"a flag has the last word", configHead + "manifests: [/a]\nhostName: web-1\n", flagValues{manifests: []string{"/c"}, host: "db-1"},
			with(func(s *settings) { s.manifests, s.host = []string{"/c"}, "db-1" })},
		{"no settle time", configHead + "settle: 0\n", flagValues{}, with(func(s *settings) { s.settle = -1 })},
		{"no trust asked for", configHead + "trustedOwners: [1001]\n", flagValues{allowWritable: true}, with(func(s *settings) { s.trust = nil })},
	} {
		writeFile(t, file, test.file)
		test.flags.config = file
		if got, err := test.flags.settings(nil); err != nil || !reflect.DeepEqual(got, test.want) {
			t.Errorf("%s: got %+v, %v\nwant %+v", test.summary, got, err, test.want)
		}
	}
	missing := flagValues{config: file + ".not"}
	if got, err := missing.settings(nil); err != nil || !reflect.DeepEqual(got, defaults) {
		t.Errorf("no file: got %+v, %v", got, err)
	}
	missing.ownConfig = true
	if _, err := missing.settings(nil); err == nil {
		t.Error("no file, but somebody named it: want an error")
	}
}

func TestHostName(t *testing.T) {
	const debian = "127.0.0.1 localhost\n127.0.1.1\tweb-1.example.com\tweb-1 # by the installer\n10.0.0.2 db-1 web-2.example.com web-2\n"
	for short, want := range map[string]string{"web-1": "web-1.example.com", "web-2": "web-2", "web": "web", "db-1": "db-1"} {
		if got := fullName(short, debian); got != want {
			t.Errorf("%s: %s, want %s", short, got, want)
		}
	}
}

func TestBrokenConfiguration(t *testing.T) {
	dir := t.TempDir()
	broken, open := dir+"/broken.yaml", dir+"/open.yaml"
	writeFile(t, broken, configHead+"retension: 30d\nlogs: {}\n")
	writeFile(t, open, configHead)
	if err := os.Chmod(open, 0o666); err != nil {
		t.Fatal(err)
	}
	lines := "stead: " + broken + ":3:1: retension: unknown field; did you mean retention?\nstead: " + broken + ":4:1: logs: not supported yet; until then: logs in a drop-in for all: container.d/logs.yaml\n"
	for _, test := range []struct {
		summary string
		args    []string
		want    call
	}{
		{"a verb refuses", []string{"ps", "--config", broken}, call{exitUsage, "", lines}},
		{"the daemon refuses", []string{"daemon", "--config", broken}, call{exitUsage, "", lines}},
		{"exec has a code of its own", []string{"exec", "--config", broken, "web", "true"}, call{exitExec, "", lines}},
		{"a file that is not there", []string{"ps", "--config", dir + "/none"}, call{exitUsage, "", "stead: stat " + dir + "/none: no such file or directory\n"}},
	} {
		if got := run(t, "", test.args...); got != test.want {
			t.Errorf("%s: %+v, want %+v", test.summary, got, test.want)
		}
	}
	wantHost := call{exitUsage, "", "stead: --host \"web_1\": want at most 64 letters, digits and '-', in parts separated by '.'; see stead ps --help\n"}
	if got := run(t, "", "ps", "--config", "/dev/null", "--host", "web_1"); got != wantHost {
		t.Errorf("a name that no host has: %+v, want %+v", got, wantHost)
	}
	if got := run(t, "", "version", "--config", broken); got.code != 0 {
		t.Errorf("version needs no configuration: %+v", got)
	}
	if os.Geteuid() == 0 {
		want := "stead: refuse configuration file " + open + ": " + open + " can be written by others than its owner (mode 0666): chmod go-w " + open + "\n"
		if got := run(t, "", "ps", "--config", open); got != (call{exitUsage, "", want}) {
			t.Errorf("a file that everybody can write: %+v", got)
		}
		if got := run(t, "", "ps", "--allow-writable-manifests", "--config", open); got.code == exitUsage {
			t.Errorf("and that is meant: %+v", got)
		}
	}
}

// A running daemon takes a new configuration when it is asked to, and keeps the
// old one when the new one is broken.
func TestReloadOfTheConfiguration(t *testing.T) {
	h := newHost(t)
	config, second := h.dir+"/config.yaml", h.dir+"/second"
	if err := os.Mkdir(second, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(second + "/b.yaml") })
	h.env = []string{"STEAD_MANIFESTS=", "STEAD_CONFIG=" + config}
	writeFile(t, config, configHead+"manifests: ["+h.manifests+"]\nhostName: web-1\n")
	h.write("a.yaml", manifest("a", "  suspend: true\n  hosts: [web-1]\n"))
	writeFile(t, second+"/b.yaml", manifest("b", "  suspend: true\n  env: {H: '${stead.host}'}\n"))
	h.startDaemon()
	h.until("a", "there", func(view.Container) bool { return true })

	writeFile(t, config, configHead+"manifests: [m]\n")
	if c := h.stead("ps"); c.code != exitUsage {
		t.Errorf("a verb with the broken file: %+v", c)
	}
	h.env[1] = "STEAD_CONFIG=/dev/null" // another caller's
	if c := h.stead("reload"); c.code != exitFailure || !strings.Contains(c.err, "configuration file invalid; keeping the current configuration: ") || !strings.Contains(c.err, config+":3:13: manifests[0]: found \"m\", want an absolute path") {
		t.Errorf("reload with a broken file: %+v", c)
	}
	h.env[1] = "STEAD_CONFIG=" + config
	writeFile(t, config, configHead+"manifests: ["+h.manifests+", "+second+"]\nhostName: web-1\n")
	c := h.stead("apply")
	if c.code != exitUsage || !strings.Contains(c.err, "the daemon uses manifests "+h.manifests+", not "+h.manifests+", "+second+"; stead reload makes the daemon read "+config+" again") {
		t.Errorf("apply with a newer file than the daemon's: %+v", c)
	}
	if c := h.stead("plan"); c.code != exitUsage {
		t.Errorf("plan with a newer file than the daemon's: %+v", c)
	}
	h.ok("reload")
	h.until("b", "there", func(v view.Container) bool { return v.State == view.Stopped })
	h.ok("apply")

	writeFile(t, config, configHead+"manifests: ["+h.manifests+", "+second+"]\nhostName: web-2\nids: {first: 1000000, count: 655360}\n")
	h.ok("reload")
	writeFile(t, second+"/c.yaml", manifest("c", ""))
	t.Cleanup(func() { os.Remove(second + "/c.yaml") })
	h.until("c", "running", running)
	if out := h.ok("inspect", "c"); !strings.Contains(out, `"host": 1000000,`) {
		t.Errorf("c's ids are not those of the new configuration: %s", out)
	}
	v := h.until("a", "held", func(v view.Container) bool { return v.Sync == view.Held })
	if !strings.Contains(v.Why, "this host's name is web-2 now, which its hosts don't match") {
		t.Errorf("%+v", v)
	}
	h.until("b", "of the new name", func(v view.Container) bool { return v.Sync == view.Synced })
	if log := h.endDaemon(syscall.SIGTERM); !strings.Contains(log, "configuration file invalid; keeping the current configuration") {
		t.Error("the log does not say that the old configuration holds")
	}
}
