package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	goruntime "runtime"
	"strings"
	"testing"
	"time"

	"stead/runtime/roottest"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	noImage "github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
)

// standInImages are the images that the deployments name, with what their configurations say.
var standInImages = map[string]v1.Config{
	"docker.io/library/postgres:16": {Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"postgres"}, Env: []string{"PGDATA=/var/lib/postgresql/data"},
		Volumes: map[string]struct{}{"/var/lib/postgresql/data": {}}, StopSignal: "SIGINT"},
	"docker.io/library/redis:7":                   {Entrypoint: []string{"docker-entrypoint.sh"}, Cmd: []string{"redis-server"}, WorkingDir: "/data"},
	"ghcr.io/mastodon/mastodon:v4.3.17":           {Entrypoint: []string{"/usr/bin/tini", "--"}, User: "mastodon", WorkingDir: "/opt/mastodon"},
	"ghcr.io/mastodon/mastodon-streaming:v4.3.17": {User: "mastodon", WorkingDir: "/opt/mastodon"},
	"docker.io/prom/prometheus:v2.55.1":           {Entrypoint: []string{"/bin/prometheus"}, User: "nobody", WorkingDir: "/prometheus"},
	"docker.io/prom/alertmanager:v0.27.0":         {Entrypoint: []string{"/bin/alertmanager"}, User: "nobody", WorkingDir: "/alertmanager"},
	"docker.io/prom/node-exporter:v1.8.2":         {Entrypoint: []string{"/bin/node_exporter"}, User: "nobody"},
	"docker.io/grafana/grafana:11.3.0":            {Entrypoint: []string{"/run.sh"}, User: "472", WorkingDir: "/usr/share/grafana"},
}

// standInRegistry serves images in which this test binary stands for all programs, in the network of
// the calling thread, and has the host ask it instead of the registries of the world.
func (h *testHost) standInRegistry(client *http.Client) {
	t := h.t
	t.Helper()
	root := h.dir + "/stand-in"
	for dir, owner := range map[string]int{"bin": 0, "etc": 0, "proc": 0, "sys": 0, "dev": 0, "tmp": 0, "host": 0, "var/lib/postgresql/data": 999, "data": 998,
		"opt/mastodon/public/system": 991, "prometheus": 65534, "alertmanager": 65534, "usr/share/grafana": 472, "var/lib/grafana": 472} {
		if err := os.MkdirAll(root+"/"+dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(root+"/"+dir, owner, owner); err != nil {
			t.Fatal(err)
		}
	}
	h.copyWithLibraries(os.Args[0], root, "/bin/stand-in")
	for program := range standIns {
		if err := os.Symlink("stand-in", root+"/bin/"+program); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("bin/stand-in", root+"/run.sh"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, root+"/etc/passwd", "root:x:0:0::/:/\npostgres:x:999:999::/:/\nredis:x:998:998::/:/\nmastodon:x:991:991::/:/\nnobody:x:65534:65534::/:/\n")
	writeFile(t, root+"/etc/group", "root:x:0:\npostgres:x:999:\nredis:x:998:\nmastodon:x:991:\nnogroup:x:65534:\n")
	if out, err := exec.Command("tar", "-cf", h.dir+"/stand-in.tar", "-C", root, ".").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	os.RemoveAll(root)
	layer, err := tarball.LayerFromFile(h.dir+"/stand-in.tar", tarball.WithCompressionLevel(1), tarball.WithCompressedCaching)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &httptest.Server{Listener: l, Config: &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0)))}}
	server.Start()
	t.Cleanup(server.Close)
	at := l.Addr().String()
	for reference, config := range standInImages {
		tag, err := name.NewTag(at+"/"+reference, name.Insecure)
		if err != nil {
			t.Fatal(err)
		}
		m, err := mutate.AppendLayers(noImage.Image, layer)
		if err != nil {
			t.Fatal(err)
		}
		config.Env = append(config.Env, "PATH=/bin")
		if m, err = mutate.ConfigFile(m, configFile(t, m, config)); err != nil {
			t.Fatal(err)
		}
		if err := remote.Write(tag, m, remote.WithTransport(client.Transport)); err != nil {
			t.Fatal(err)
		}
	}
	writeFile(t, h.dir+"/config.yaml", fmt.Sprintf(configHead+`registries:
  %[1]s: {insecure: true}
  docker.io: {mirrors: ["%[1]s/docker.io"], mirrorsOnly: true}
  ghcr.io: {mirrors: ["%[1]s/ghcr.io"], mirrorsOnly: true}
`, at))
	h.env = append(h.env, "STEAD_CONFIG="+h.dir+"/config.yaml")
}

func configFile(t *testing.T, m v1.Image, config v1.Config) *v1.ConfigFile {
	t.Helper()
	c, err := m.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	c = c.DeepCopy()
	c.OS, c.Architecture, c.Config = "linux", goruntime.GOARCH, config
	return c
}

// The deployments of examples/ start from nothing, with images that stand in for theirs, and their
// parts work together.
func TestDeployments(t *testing.T) {
	h := newHost(t)
	client := ownNetwork(t)
	h.standInRegistry(client)
	h.startDaemon()
	for _, name := range []string{"social", "monitoring", "database"} {
		if err := os.CopyFS(h.manifests+"/"+name, os.DirFS("../../examples/"+name)); err != nil {
			t.Fatal(err)
		}
	}
	h.stead("apply") // what began before its database counts as a failure of apply
	h.ok("wait", "--timeout=2m", "social-db", "social-redis", "social-web", "social-streaming", "social-worker", "prometheus", "alertmanager", "node-exporter", "grafana", "database")

	t.Run("social", func(t *testing.T) {
		h.within(t)
		web, streaming := "http://127.0.0.1:3000", "http://127.0.0.1:4000"
		untilAnswers(t, client, web+"/health", "OK")
		untilAnswers(t, client, streaming+"/api/v1/streaming/health", "OK")
		for _, post := range []string{"one", "two"} {
			if got := get(client, web+"/posts?add="+post); got != "" {
				t.Errorf("a post: %s", got)
			}
		}
		if got := get(client, streaming+"/posts"); got != "one;two;" {
			t.Errorf("the streaming server has %q", got)
		}
		for _, post := range []string{"one", "two"} { // made by a worker, seen by the web server
			h.untilFile(h.dir+"/state/volumes/social-media/"+post, "social-worker-")
		}
		h.ok("restart", "social-db")
		untilAnswers(t, client, web+"/posts", "one;two;")
	})
	t.Run("monitoring", func(t *testing.T) {
		h.within(t)
		first, _ := os.ReadFile("/proc/1/comm")
		system, _ := os.ReadFile("/etc/os-release")
		want := fmt.Sprintf("first %q, more than ten true, %d bytes of os-release, open /host/root/tmp/stead-stand-in: read-only file system", strings.TrimSpace(string(first)), len(system))
		untilAnswers(t, client, "http://admin:replace-this-password@127.0.0.1:3001/", want)
		if got := get(client, "http://127.0.0.1:3001/"); got != "" {
			t.Errorf("without a password: %q", got)
		}
		pid := h.until("prometheus", "runs", running).Pid
		file := h.manifests + "/monitoring/monitoring.files/prometheus/prometheus.yml"
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		writeFile(t, h.dir+"/new", strings.Replace(string(text), ":9100", ":9199", 1))
		if err := os.Rename(h.dir+"/new", file); err != nil {
			t.Fatal(err)
		}
		untilAnswers(t, client, "http://127.0.0.1:9090/query", "down")
		untilAnswers(t, client, "http://127.0.0.1:9093/", "127.0.0.1:9199 is down")
		if now := h.until("prometheus", "runs", running).Pid; now != pid {
			t.Errorf("process %d became %d for a new configuration", pid, now)
		}
	})
	t.Run("database", func(t *testing.T) {
		h.within(t)
		const want = "CREATE DATABASE app;CREATE ROLE app LOGIN;"
		h.untilFile(h.dir+"/state/volumes/database-backups/app.sql", "CREATE DATABASE app;")
		h.ok("wait", "--for=completed", "--timeout=1m", "database-setup", "database-backup")
		h.ok("start", "database-backup")
		h.untilFile(h.dir+"/state/volumes/database-backups/app.sql", want)
	})
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
	files, _ := filepath.Glob(h.manifests + "/*/*.yaml")
	for _, f := range files {
		os.Remove(f)
	}
	h.ok("apply", "--confirm-removal=all")
}

// untilFile waits until a file begins with a text.
func (h *testHost) untilFile(path, text string) {
	h.t.Helper()
	var b []byte
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, _ = os.ReadFile(path); strings.HasPrefix(string(b), text) {
			return
		}
	}
	h.t.Fatalf("%s holds %q, want %q", path, b, text)
}
