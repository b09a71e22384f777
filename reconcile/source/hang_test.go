package source

import (
	"os"
	"strings"
	"testing"
	"time"

	"stead/runtime/files"
	"stead/runtime/roottest"
)

// Whatever of the manifests lies on a file system that does not answer, reading ends in time, says
// what hangs, and reads everything else. Later readings don't wait for it at all, and when it
// answers that wakes the loop.
func TestReadHangingFileSystem(t *testing.T) {
	roottest.Need(t)
	const hangs = "the file system at DIR/hung (fuse of hung) does not answer since "
	web, db := manifest("web", "  rootfs: {host: {}}\n"), manifest("db", "  rootfs: {host: {}}\n")
	for _, row := range []struct {
		summary string
		files   map[string]string // on the file system
		tree    map[string]string
		dirs    string // manifest directories, after that of db.yaml
		was     string // containers before
		now     string // containers and errors while it hangs
	}{
		{"a manifest directory", map[string]string{"web.yaml": web}, nil, "DIR/hung", "db web", "db, DIR/hung: " + hangs},
		{"a manifest directory through a link", map[string]string{"web.yaml": web}, map[string]string{"to": "-> hung"}, "DIR/to", "db web", "db, DIR/to: " + hangs},
		{"what a link to a directory leads to", map[string]string{"web.yaml": web}, map[string]string{"ok/team": "-> ../hung"}, "", "db web", "db, DIR/ok: team: "},
		{"what a link among the manifests leads to", map[string]string{"web.yaml": web}, map[string]string{"ok/web.yaml": "-> ../hung/web.yaml"}, "", "db web", "db, DIR/ok/web.yaml: can't be read: " + hangs},
		{"a folder of drop-ins", map[string]string{"10.yaml": "spec: {hostname: a}"}, map[string]string{"ok/web.yaml": web, "ok/web.container.d": "-> ../hung"}, "", "db web",
			"db, DIR/ok/web.container.d: can't be read: " + hangs},
		{"a drop-in", map[string]string{"10.yaml": "spec: {hostname: a}"}, map[string]string{"ok/web.yaml": web, "ok/web.container.d/1.yaml": "-> ../../hung/10.yaml"}, "", "db web",
			"db, DIR/ok/web.container.d/1.yaml: can't be read: " + hangs},
		{"a source of files", map[string]string{"a": "text"}, map[string]string{"ok/web.yaml": fileFrom("web", "DIR/hung/a")}, "", "db web",
			"db, DIR/ok/web.yaml:8:24: spec.files[/a].source: can't read DIR/hung/a: " + hangs},
		{"a directory as a source of files", map[string]string{"a": "text"}, map[string]string{"ok/web.yaml": fileFrom("web", "DIR/hung")}, "", "db web",
			"db, DIR/ok/web.yaml:8:24: spec.files[/a].source: can't read DIR/hung: " + hangs},
		{"a source through a link", map[string]string{"a": "text"}, map[string]string{"ok/web.yaml": fileFrom("web", "./a"), "ok/a": "-> ../hung/a"}, "", "db web",
			"db, DIR/ok/web.yaml:8:24: spec.files[/a].source: can't read DIR/ok/a: " + hangs},
		{"a source of secrets", map[string]string{"a": "text"}, map[string]string{"ok/web.yaml": manifest("web", "  rootfs: {host: {}}\n  envSecrets: {KEY: {source: DIR/hung/a}}\n")}, "", "db web",
			"db, DIR/ok/web.yaml:8:30: spec.envSecrets.KEY.source: can't read DIR/hung/a: " + hangs},
	} {
		t.Run(row.summary, func(t *testing.T) {
			t.Parallel()
			p := newPlaced(t, map[string]string{"ok/db.yaml": db})
			real := strings.NewReplacer("DIR", p.dir)
			for name, text := range row.tree {
				row.tree[name] = real.Replace(text)
			}
			tree(t, p.dir, row.tree)
			if err := os.Mkdir(p.dir+"/hung", 0o755); err != nil {
				t.Fatal(err)
			}
			fuse := roottest.MountFUSE(t, p.dir+"/hung", row.files)
			p.Dirs, p.Contents, p.Key = []string{p.dir + "/ok"}, AllContents, files.Key{1}
			if row.dirs != "" {
				p.Dirs = append(p.Dirs, real.Replace(row.dirs))
			}
			p.Watch(t.Context())
			say := func() string {
				errs, names := p.said()
				return strings.Join(append([]string{strings.Join(names, " ")}, errs...), ", ")
			}
			if got := say(); got != row.was {
				t.Fatalf("before: %s", got)
			}
			if r := p.Read(); r.Retry != Poll || r.Unwatched != nil || p.Read() != r {
				t.Errorf("before: read again after %s (%v)", r.Retry, r.Unwatched)
			}
			fuse.Hang()
			p.Renew()
			began := time.Now()
			if got := say(); !strings.HasPrefix(got, row.now) || !strings.Contains(got, "look at its server, or unmount it: umount -f -l DIR/hung") {
				t.Errorf("while it hangs: %s", got)
			}
			if took := time.Since(began); took > 20*time.Second {
				t.Errorf("it took %s", took)
			}
			r := p.Read()
			for began = time.Now(); time.Since(began) < time.Second; {
				if p.Read() != r {
					t.Error("another reading, though nothing has changed")
				}
			}
			for len(p.Wake()) > 0 {
				<-p.Wake()
			}
			fuse.Resume()
			awaken(t, p.Source, "it answers")
			if got := say(); got != row.was {
				t.Errorf("afterwards: %s", got)
			}
			for name := range row.files {
				fuse.Write(name, row.files[name]+"\n# more\n")
			}
			if p.Read() == r {
				t.Error("a change is not noticed")
			}
		})
	}
}
