//go:build images

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"stead/reconcile/view"
	"stead/runtime/roottest"
)

// The tests of this file run nginx, PostgreSQL and Redis of the Debian that make test-images makes.

const declaredDebian = `apiVersion: stead/v1
kind: Image
metadata: {name: debian}
spec: {source: {archive: %s}}
`

const nginx = `apiVersion: stead/v1
kind: Container
metadata: {name: web}
spec:
  replicas: %d
  rootfs: {image: debian}
  command:
    - sh
    - -c
    - |
      echo "run of $STEAD_NAME" >> /var/www/html/runs
      sed "s/PORT/$PORT/" /etc/nginx/web.conf > /run/web.conf
      exec nginx -c /run/web.conf
  env: {PORT: "200${stead.index}"}
  files:
    /etc/nginx/web.conf:
      content: |
        daemon off;
        worker_processes 1;
        error_log stderr;
        pid /run/web.pid;
        events { worker_connections 32; }
        http {
          access_log off;
          server {
            listen 127.0.0.1:PORT;
            root /var/www/html;
            location = /port { return 200 "PORT\n"; }
          }
        }
  stop: {signal: QUIT}
  network: {mode: host}
`

// debianHost is a host with the Debian as its image, in a network of its own.
func debianHost(t *testing.T) (*testHost, *http.Client) {
	h := newHost(t)
	file := os.Getenv("STEAD_TEST_DEBIAN")
	if file == "" {
		t.Fatal("STEAD_TEST_DEBIAN names no archive; run make test-images")
	}
	client := ownNetwork(t)
	h.write("debian.yaml", fmt.Sprintf(declaredDebian, file))
	h.startDaemon("--log-format", "json")
	h.ok("apply")
	return h, client
}

// Fifty nginx of one manifest answer, each on its port. From 50 to 20 and back: the 20 keep their
// processes, the 30 get their data back.
func TestToolsNginx(t *testing.T) {
	h, client := debianHost(t)
	scale := func(n int) map[string]int {
		t.Helper()
		began := time.Now()
		h.write("web.yaml", fmt.Sprintf(nginx, n))
		h.ok("apply")
		pids := map[string]int{}
		for _, v := range h.look() {
			if running(v) && v.Sync == view.Synced {
				pids[v.Name] = v.Pid
			}
		}
		t.Logf("%d run after %.1f s", len(pids), time.Since(began).Seconds())
		if len(pids) != n {
			t.Fatalf("%d of %d run", len(pids), n)
		}
		return pids
	}
	answers := func(n int, runs func(i int) int) {
		t.Helper()
		for i := range n {
			at := fmt.Sprintf("http://127.0.0.1:200%d", i)
			untilAnswers(t, client, at+"/port", fmt.Sprintf("200%d\n", i))
			want := strings.Repeat(fmt.Sprintf("run of web-%d\n", i), runs(i))
			if got := get(client, at+"/runs"); got != want {
				t.Errorf("web-%d answers %q, want %q", i, got, want)
			}
		}
	}
	first := scale(50)
	answers(50, func(int) int { return 1 })
	for name, pid := range scale(20) {
		if first[name] != pid {
			t.Errorf("20: process %d of %s became %d", first[name], name, pid)
		}
	}
	if got := get(client, "http://127.0.0.1:20020/port"); !strings.Contains(got, "connection refused") {
		t.Errorf("web-20 answers %q", got)
	}
	again := scale(50)
	for i := range 20 {
		if name := fmt.Sprintf("web-%d", i); first[name] != again[name] {
			t.Errorf("50 again: process %d of %s became %d", first[name], name, again[name])
		}
	}
	answers(50, func(i int) int { return map[bool]int{true: 1, false: 2}[i < 20] })
	if c := h.stead("plan"); c.code != 0 {
		t.Errorf("plan: %+v", c)
	}
}

// A web root that changes while requests run: each answer is one version of a file, whole.
func TestToolsWebRoot(t *testing.T) {
	h, client := debianHost(t)
	const size = 300_000
	source := h.dir + "/www"
	if err := os.Mkdir(source, 0o755); err != nil {
		t.Fatal(err)
	}
	version := func(n int) { // each file is replaced, as an editor or rsync does it
		for _, name := range []string{"a", "b"} {
			writeFile(t, h.dir+"/new-file", strings.Repeat(string(rune('a'+n%26)), size+n))
			if err := os.Rename(h.dir+"/new-file", source+"/"+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	version(0)
	text := fmt.Sprintf(nginx, 1)
	text = strings.Replace(text, "root /var/www/html", "root /srv/www", 1)
	text = strings.Replace(text, "  files:\n", "  files:\n    /srv/www: {source: "+source+", onChange: none}\n", 1)
	h.write("web.yaml", text)
	h.ok("apply")
	untilAnswers(t, client, "http://127.0.0.1:2000/port", "2000\n")
	pid := h.until("web-0", "runs", running).Pid

	var answered, latest atomic.Int64
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		url := "http://127.0.0.1:2000/" + string("ab"[i%2])
		wait.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				got := get(client, url)
				n := len(got) - size
				if n < 0 || n > 1000 || got != strings.Repeat(string(rune('a'+n%26)), size+n) {
					t.Errorf("%s answers %d bytes, which are no version: %.60q", url, len(got), got)
					return
				}
				answered.Add(1)
				latest.Store(max(latest.Load(), int64(n)))
			}
		})
	}
	const versions = 150
	for n := 1; n <= versions && !t.Failed(); n++ {
		version(n)
		before := answered.Load()
		for end := time.Now().Add(roottest.Patience); !t.Failed() && answered.Load() < before+4 && time.Now().Before(end); {
			time.Sleep(time.Millisecond)
		}
	}
	for end := time.Now().Add(roottest.Patience); !t.Failed() && latest.Load() < versions; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("the last version that was seen is %d of %d", latest.Load(), versions)
		}
	}
	close(stop)
	wait.Wait()
	t.Logf("%d answers while %d versions came", answered.Load(), versions)
	if now := h.until("web-0", "runs", running); now.Pid != pid {
		t.Errorf("process %d became %d", pid, now.Pid)
	}
}

const postgres = `apiVersion: stead/v1
kind: Container
metadata: {name: db}
spec:
  rootfs: {image: debian}
  command: [/usr/lib/postgresql/15/bin/postgres, -c, config_file=/etc/postgresql/15/main/postgresql.conf]
  args: [-c, ssl_cert_file=/etc/tls/crt, -c, ssl_key_file=/etc/tls/key, -c, unix_socket_directories=/tmp, -c, external_pid_file=, -c, jit=off]
  user: postgres
  mounts:
    /var/lib/postgresql/15/main: {volume: data, owner: postgres, mode: "0700"}
    /dev/shm: {tmpfs: {size: 64Mi}}
  files:
    /etc/tls: {source: %s, mode: "0400", onChange: reload}
  reload: {signal: HUP}
  stop: {signal: INT}
  network: {mode: host}
`

const other = `apiVersion: stead/v1
kind: Container
metadata: {name: other}
spec:
  rootfs: {image: debian}
  command: [sh, -c, 'trap "echo told to reload" HUP; echo up; while :; do sleep 60 & wait $!; done']
  files:
    /etc/key: {source: %s, mode: "0400", onChange: reload}
  reload: {signal: HUP}
  stop: {signal: KILL}
  network: {mode: host}
`

const redis = `apiVersion: stead/v1
kind: Container
metadata: {name: cache}
spec:
  rootfs: {image: debian}
  command: [redis-server, /etc/redis/own.conf]
  user: redis
  workingDir: /data
  mounts: {/data: {volume: cache, owner: redis, mode: "0700"}}
  files: {/etc/redis/own.conf: {source: %s, mode: "0400"}}
  network: {mode: host}
`

// PostgreSQL and Redis on volumes. A key that changes on the host reaches PostgreSQL, which reads
// it again, and nobody else; what is in it is told nowhere. A second server that wants the volume
// waits, and the first goes on. A database that is removed and comes back has its data.
func TestToolsPostgres(t *testing.T) {
	h, client := debianHost(t)
	h.endDaemon(syscall.SIGTERM) // what the import said is no part of it
	h.startDaemon("--log-format", "json")
	keys, otherKey := h.dir+"/tls", h.dir+"/other-key"
	if err := os.Mkdir(keys, 0o700); err != nil {
		t.Fatal(err)
	}
	var secrets []string
	certificate := func(serial int64) {
		crt, key, secret := newCertificate(t, serial)
		secrets = append(secrets, secret)
		for name, b := range map[string]string{"crt": crt, "key": key} {
			writeFile(t, h.dir+"/new-file", b)
			if err := os.Rename(h.dir+"/new-file", keys+"/"+name); err != nil {
				t.Fatal(err)
			}
		}
	}
	certificate(1)
	secrets = append(secrets, "canary-of-another", "canary-of-the-cache")
	writeFile(t, otherKey, "canary-of-another")
	writeFile(t, h.dir+"/redis.conf", "bind 127.0.0.1\nport 6400\ndir /data\nrequirepass canary-of-the-cache\n")
	h.write("db.yaml", fmt.Sprintf(postgres, keys))
	h.write("other.yaml", fmt.Sprintf(other, otherKey))
	h.write("cache.yaml", fmt.Sprintf(redis, h.dir+"/redis.conf"))
	h.ok("apply")
	untilServes(t, client, 1)
	if got := talk(t, client, "127.0.0.1:6400", "AUTH canary-of-the-cache\r\nSET k v\r\nGET k\r\nQUIT\r\n"); got != "+OK\r\n+OK\r\n$1\r\nv\r\n+OK\r\n" {
		t.Errorf("redis answers %q", got)
	}
	sql := func(text string) string {
		return h.ok("exec", "db", "--", "psql", "-h", "/tmp", "-U", "postgres", "-Atqc", text)
	}
	sql("create table t (n int); insert into t select generate_series(1, 1000)")
	db, untouched := h.until("db", "runs", running), h.until("other", "runs", running)
	if st, err := os.Stat(h.dir + "/state/volumes/data"); err != nil || st.Mode().Perm() != 0o700 || st.Sys().(*syscall.Stat_t).Uid == 0 {
		t.Errorf("the volume: %v, %v", st, err)
	}

	told := h.stead("plan").out
	certificate(2)
	untilServes(t, client, 2)
	if now := h.until("db", "is as declared", isSyncedAndRuns); now.Pid != db.Pid {
		t.Errorf("process %d became %d", db.Pid, now.Pid)
	}
	if now := h.until("other", "is as declared", isSyncedAndRuns); now.Pid != untouched.Pid || strings.Contains(h.ok("logs", "other"), "reload") {
		t.Errorf("another container was told: %+v", now)
	}

	h.write("second.yaml", strings.Replace(fmt.Sprintf(postgres, keys), "name: db", "name: second", 1))
	v := h.until("second", "waits", func(v view.Container) bool { return strings.Contains(v.Why, "volume data is written by db") })
	if v.Pid != 0 || h.until("db", "runs", running).Pid != db.Pid || sql("select sum(n) from t") != "500500\n" {
		t.Errorf("beside a second one: %+v", v)
	}
	os.Remove(h.manifests + "/second.yaml")
	h.ok("apply", "--confirm-removal=all")

	h.endDaemon(syscall.SIGTERM)
	certificate(3)
	told += h.stead("plan").out + h.stead("plan", "-o", "json").out
	os.Remove(h.manifests + "/db.yaml")
	h.startDaemon("--log-format", "json")
	told += h.stead("apply", "--confirm-removal=db").out
	h.write("db.yaml", fmt.Sprintf(postgres, keys))
	told += h.ok("apply")
	untilServes(t, client, 3)
	if got := sql("select sum(n) from t"); got != "500500\n" {
		t.Errorf("after its return: %q", got)
	}
	for _, args := range [][]string{{"ps", "-o", "json"}, {"status"}, {"events", "-o", "json"}, {"logs", "db"}, {"logs", "other"}, {"logs", "cache"}, {"inspect", "db"}, {"inspect", "cache"}} {
		told += h.ok(args...)
	}
	h.noneTold(secrets, told)
}

func isSyncedAndRuns(v view.Container) bool { return running(v) && v.Sync == view.Synced }

// noneTold fails for each secret in a text, in the daemon's log, on a command line, or in a file of
// stead's outside of the memory in which containers see it.
func (h *testHost) noneTold(secrets []string, told string) {
	h.t.Helper()
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, f := range lines {
		b, _ := os.ReadFile(f)
		told += string(b)
	}
	inMemory := map[string]bool{}
	for _, dir := range []string{h.dir + "/state", h.run} {
		filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() && (path == h.dir+"/state/images" || strings.HasSuffix(path, "/root")) {
				return fs.SkipDir // what was downloaded, and what is in upper too
			}
			if err != nil || !d.Type().IsRegular() {
				return nil
			}
			b, _ := os.ReadFile(path)
			for _, s := range secrets {
				if !strings.Contains(string(b), s) {
				} else if strings.HasPrefix(path, h.run+"/files/") {
					inMemory[s] = true
				} else {
					h.t.Errorf("%s has a secret", path)
				}
			}
			return nil
		})
	}
	told += h.endDaemon(syscall.SIGTERM)
	for _, s := range secrets {
		if i := strings.Index(told, s); i >= 0 {
			h.t.Errorf("told: %q", told[max(0, i-200):i+len(s)])
		}
	}
	if len(inMemory) != 3 || !strings.Contains(told, "files[/etc/tls]") {
		h.t.Errorf("%d secrets are in memory, want the last three; or nothing is told of them at all: the test proves nothing", len(inMemory))
	}
}

// newCertificate returns a certificate and its key, and a line of the key.
func newCertificate(t *testing.T, serial int64) (crt, key, secret string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"db"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	b, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	key = string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: b}))
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), key, strings.Split(key, "\n")[2]
}

// untilServes waits until PostgreSQL shows the certificate with that number.
func untilServes(t *testing.T, client *http.Client, serial int64) {
	t.Helper()
	var last error
	for end := time.Now().Add(roottest.Patience); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		c, err := client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", "127.0.0.1:5432")
		if last = err; err != nil {
			continue
		}
		got, err := shownCertificate(c)
		c.Close()
		if last = err; err == nil && got == serial {
			return
		}
	}
	t.Fatalf("PostgreSQL never showed certificate %d: %v", serial, last)
}

func shownCertificate(c net.Conn) (int64, error) {
	c.SetDeadline(time.Now().Add(5 * time.Second))
	if _, err := c.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil { // asks for encryption
		return 0, err
	}
	answer := make([]byte, 1)
	if _, err := c.Read(answer); err != nil || answer[0] != 'S' {
		return 0, fmt.Errorf("answers %q, %w", answer, err)
	}
	s := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
	if err := s.Handshake(); err != nil {
		return 0, err
	}
	return s.ConnectionState().PeerCertificates[0].SerialNumber.Int64(), nil
}

// talk sends a text and returns all that comes back.
func talk(t *testing.T, client *http.Client, address, text string) string {
	t.Helper()
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(20 * time.Millisecond) {
		c, err := client.Transport.(*http.Transport).DialContext(t.Context(), "tcp", address)
		if err != nil && time.Now().Before(end) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var all strings.Builder
		c.Write([]byte(text))
		c.SetDeadline(end)
		for b := make([]byte, 1000); ; {
			n, err := c.Read(b)
			all.Write(b[:n])
			if err != nil {
				return all.String()
			}
		}
	}
}
