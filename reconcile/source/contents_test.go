package source

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"stead/runtime/files"
	"stead/runtime/roottest"
	"stead/spec"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// fileFrom is a manifest whose file /a comes from a source.
func fileFrom(name, source string) string {
	return manifest(name, "  rootfs: {host: {}}\n  files: {/a: {source: "+source+"}}\n")
}

// sources are the sources of all valid documents, by container.
func (p *placed) sources() map[string]spec.Source {
	all := map[string]spec.Source{}
	for _, f := range p.Read().Files {
		for _, d := range f.Documents {
			if d.Container != nil && len(d.Sources) > 0 {
				all[d.Name] = d.Sources[0]
			}
		}
	}
	return all
}

// What a source holds is known by a sum: it changes with the content and comes back with it,
// tells nothing without the key, and is read again only when a stat says so.
func TestContents(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, map[string]string{"m/web.yaml": fileFrom("web", "./web.files/a"), "m/web.files/a": "one", "m/db.yaml": fileFrom("db", "DIR/x"), "m/sub/in.yaml": fileFrom("in", "../x"), "x/f": "x"})
	os.WriteFile(p.dir+"/m/db.yaml", []byte(fileFrom("db", p.dir+"/x")), 0o644)
	os.WriteFile(p.dir+"/m/x", []byte("in"), 0o644)
	p.Contents, p.Key = AllContents, files.Key{1}
	settle := func() { // stamps that may come again are not trusted
		old := time.Now().Add(-time.Hour)
		for _, name := range []string{"m/web.files/a", "m/x", "x/f", "x"} {
			os.Chtimes(p.dir+"/"+name, old, old)
		}
		time.Sleep(fineGranularity)
		p.Read()
	}
	settle()
	first := p.sources()
	if first["web"].Path != p.dir+"/named/web.files/a" || first["in"].Path != p.dir+"/named/x" || first["web"].Sum == "" || !first["db"].Dir || first["web"].Dir {
		t.Fatalf("got %+v", first)
	}
	r := p.Read()
	if p.Read() != r {
		t.Error("another reading, though nothing has changed")
	}
	for _, change := range []struct {
		summary string
		do      func() error
		web, db bool // changes
	}{
		{"in place", func() error { return os.WriteFile(p.dir+"/m/web.files/a", []byte("two"), 0o644) }, true, false},
		{"by rename", func() error {
			os.WriteFile(p.dir+"/m/web.files/.new", []byte("two"), 0o644)
			return os.Rename(p.dir+"/m/web.files/.new", p.dir+"/m/web.files/a")
		}, false, false},
		{"its mode", func() error { return os.Chmod(p.dir+"/m/web.files/a", 0o600) }, true, false},
		{"what nobody can write anyway", func() error { return os.Chmod(p.dir+"/m/web.files/a", 0o400) }, false, false},
		{"a file in a directory", func() error { return os.WriteFile(p.dir+"/x/f", []byte("y"), 0o644) }, false, true},
		{"one more in a directory", func() error { return os.WriteFile(p.dir+"/x/g", nil, 0o644) }, false, true},
		{"a link to another tree", func() error {
			os.Mkdir(p.dir+"/m2", 0o755)
			tree(t, p.dir, map[string]string{"m2/web.yaml": fileFrom("web", "./web.files/a"), "m2/web.files/a": "three", "m2/db.yaml": fileFrom("db", p.dir+"/x")})
			os.Symlink("m2", p.dir+"/named.new")
			return os.Rename(p.dir+"/named.new", p.dir+"/named")
		}, true, false},
	} {
		before := p.sources()
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		after := p.sources()
		if (before["web"].Sum != after["web"].Sum) != change.web || (before["db"].Sum != after["db"].Sum) != change.db {
			t.Errorf("%s: web %t, db %t", change.summary, before["web"].Sum != after["web"].Sum, before["db"].Sum != after["db"].Sum)
		}
	}
	other := newPlaced(t, map[string]string{"m/web.yaml": fileFrom("web", "./a"), "m/a": "one"})
	other.Contents, other.Key = AllContents, files.Key{2}
	if other.sources()["web"].Sum == first["web"].Sum {
		t.Error("the key makes no difference")
	}
}

// A source that can't be read is an error of its manifest, at its place.
func TestContentErrors(t *testing.T) {
	roottest.Need(t)
	for _, row := range []struct {
		summary, source string
		files           map[string]string
		writable        string
		want            string
	}{
		{"there", "DIR/x", map[string]string{"x": ""}, "", ""},
		{"missing", "DIR/x", nil, "", "can't read DIR/x: no such file or directory"},
		{"a device", "/dev/null", nil, "", "can't read /dev/null: found a device, want regular files and directories"},
		{"below what a container can write", "DIR/srv/x", map[string]string{"srv/x": ""}, "DIR/srv", "can't read DIR/srv/x: a container can write to DIR/srv, or once could"},
		{"through what a container can write", "DIR/srv/x", map[string]string{"srv/x": "-> ../y", "y": ""}, "DIR/srv", "can't read DIR/srv/x: a container can write to DIR/srv, or once could"},
		{"to what a container can write", "DIR/x", map[string]string{"x": "-> srv/y", "srv/y": ""}, "DIR/srv", "can't read DIR/x: a container can write to DIR/srv, or once could"},
		{"what a container can write", "DIR/x", map[string]string{"x": ""}, "DIR/x", "can't read DIR/x: a container can write to DIR/x, or once could"},
		{"in a directory that a container can write", "DIR/x", map[string]string{"x/y": ""}, "DIR/x", "can't read DIR/x: a container can write to DIR/x, or once could"},
	} {
		t.Run(row.summary, func(t *testing.T) {
			p := newPlaced(t, row.files)
			os.WriteFile(p.dir+"/m/web.yaml", []byte(fileFrom("web", strings.ReplaceAll(row.source, "DIR", p.dir))), 0o644)
			p.Contents = AllContents
			if row.writable != "" {
				p.writable = []string{strings.ReplaceAll(row.writable, "DIR", p.dir)}
			}
			for range 2 {
				errs, containers := p.said()
				if row.want == "" {
					if len(errs) > 0 || len(containers) != 1 {
						t.Errorf("got %q, %q", errs, containers)
					}
					continue
				}
				want := "DIR/named/web.yaml:8:24: spec.files[/a].source: " + row.want
				if len(errs) != 1 || !strings.HasPrefix(errs[0], want) || len(containers) > 0 {
					t.Errorf("got %q, %q, want %q", errs, containers, want)
				}
			}
		})
	}
}

// A manifest that asks to write a source has an error, and none when nothing is taken from
// there any more.
func TestMayNotWriteSource(t *testing.T) {
	p := newPlaced(t, map[string]string{"srv/conf/x": "", "other/x": ""})
	p.Contents = AllContents
	os.WriteFile(p.dir+"/m/db.yaml", []byte(fileFrom("db", p.dir+"/srv/conf/x")), 0o644)
	os.WriteFile(p.dir+"/m/web.yaml", []byte(mounting(p.dir+"/srv")), 0o644)
	want := "DIR/named/web.yaml:8:28: spec.mounts[/data].source: found DIR/srv: it contains the source of files DIR/srv/conf/x"
	if errs, containers := p.said(); len(errs) != 1 || !strings.HasPrefix(errs[0], want) || len(containers) != 1 {
		t.Errorf("got %q, %q", errs, containers)
	}
	os.WriteFile(p.dir+"/m/db.yaml", []byte(fileFrom("db", p.dir+"/other/x")), 0o644)
	if errs, containers := p.said(); len(errs) > 0 || len(containers) != 2 {
		t.Errorf("from elsewhere: got %q, %q", errs, containers)
	}
	os.WriteFile(p.dir+"/m/db.yaml", []byte(fileFrom("db", p.dir+"/srv/conf")), 0o644)
	if errs, _ := p.said(); len(errs) != 1 {
		t.Errorf("again from there: got %q", errs)
	}
	os.Remove(p.dir + "/m/db.yaml")
	if errs, _ := p.said(); len(errs) > 0 {
		t.Errorf("gone: got %q", errs)
	}
}

// A source that a process is writing is what it was until it is closed; one that was never
// read is waited for.
func TestContentBeingWritten(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, map[string]string{"x": "one"})
	p.Contents = AllContents
	os.WriteFile(p.dir+"/m/web.yaml", []byte(fileFrom("web", p.dir+"/x")), 0o644)
	before := p.sources()["web"].Sum
	f, err := os.OpenFile(p.dir+"/x", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	f.WriteString("tw")
	if r := p.Read(); p.sources()["web"].Sum != before || r.Retry == 0 || r.Retry > time.Second {
		t.Errorf("half of it was read, or it is not read again: %s", r.Retry)
	}
	os.WriteFile(p.dir+"/m/db.yaml", []byte(fileFrom("db", p.dir+"/y")), 0o644)
	g, err := os.Create(p.dir + "/y")
	if err != nil {
		t.Fatal(err)
	}
	if errs, _ := p.said(); len(errs) != 1 || !strings.HasSuffix(errs[0], "another process has it open for writing") {
		t.Errorf("got %q", errs)
	}
	f.Close()
	g.Close()
	if all := p.sources(); all["web"].Sum == before || all["db"].Sum == "" || p.Read().Retry != 0 {
		t.Errorf("got %+v", all)
	}
}

// A change of a source wakes, wherever it happens.
func TestContentsAreWatched(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, map[string]string{"x/f": "", "x/sub/g": "", "etc2/app.conf": "", "link": "-> tree1", "tree1/c": "1", "tree2/c": "2"})
	p.Contents = AllContents
	os.WriteFile(p.dir+"/m/a.yaml", []byte(fileFrom("a", p.dir+"/x")), 0o644)
	os.WriteFile(p.dir+"/m/b.yaml", []byte(fileFrom("b", p.dir+"/etc2/app.conf")), 0o644)
	os.WriteFile(p.dir+"/m/c.yaml", []byte(fileFrom("c", p.dir+"/link/c")), 0o644)
	ctx, cancel := context.WithCancel(context.Background())
	defer goleak.VerifyNone(t)
	defer cancel()
	p.Watch(ctx)
	sum := func() string { return fmt.Sprint(p.sources()) }
	quiet(p.Source)
	for _, change := range []struct {
		summary string
		do      func() error
	}{
		{"a file in place", func() error { return os.WriteFile(p.dir+"/etc2/app.conf", []byte("x"), 0o644) }},
		{"a file by rename", func() error {
			os.WriteFile(p.dir+"/etc2/.tmp", []byte("y"), 0o644)
			return os.Rename(p.dir+"/etc2/.tmp", p.dir+"/etc2/app.conf")
		}},
		{"in a directory", func() error { return os.WriteFile(p.dir+"/x/f", []byte("y"), 0o644) }},
		{"in a folder of it", func() error { return os.WriteFile(p.dir+"/x/sub/g", []byte("y"), 0o644) }},
		{"one more in a folder of it", func() error { return os.WriteFile(p.dir+"/x/sub/h", []byte("y"), 0o644) }},
		{"a new folder", func() error { return os.MkdirAll(p.dir+"/x/new", 0o755) }},
		{"in the new folder", func() error { return os.WriteFile(p.dir+"/x/new/i", []byte("y"), 0o644) }},
		{"a link on the way", func() error {
			os.Symlink("tree2", p.dir+"/link.new")
			return os.Rename(p.dir+"/link.new", p.dir+"/link")
		}},
		{"it is gone", func() error { return os.Remove(p.dir + "/etc2/app.conf") }},
		{"it is back", func() error { return os.WriteFile(p.dir+"/etc2/app.conf", []byte("z"), 0o644) }},
	} {
		before := sum()
		quiet(p.Source)
		if err := change.do(); err != nil {
			t.Fatal(err)
		}
		for awaken(t, p.Source, change.summary); sum() == before; {
			awaken(t, p.Source, change.summary+": not seen")
		}
	}
}

// A thousand sources cost a reading at most 5 ms more.
func TestContentsAreCheap(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, nil)
	for i := range 1000 {
		name := fmt.Sprintf("c%d", i)
		os.WriteFile(p.dir+"/"+name, []byte(name), 0o600)
		os.WriteFile(p.dir+"/m/"+name+".yaml", []byte(fileFrom(name, p.dir+"/"+name)), 0o644)
	}
	cpu := func(which Which) time.Duration {
		p.Change(func(s *Source) { s.Contents = which })
		p.Read()
		time.Sleep(2 * fineGranularity)
		p.Read()
		best := time.Hour
		for range 20 {
			var from, to unix.Rusage
			unix.Getrusage(unix.RUSAGE_SELF, &from)
			p.Read()
			unix.Getrusage(unix.RUSAGE_SELF, &to)
			used := time.Duration(to.Utime.Nano() + to.Stime.Nano() - from.Utime.Nano() - from.Stime.Nano())
			best = min(best, used)
		}
		return best
	}
	var st unix.Stat_t
	began := time.Now()
	for i := range 1000 {
		unix.Stat(fmt.Sprintf("%s/c%d", p.dir, i), &st)
	}
	bare := time.Since(began) // on a slow machine, or one that does other things
	without, with := cpu(NoContents), cpu(AllContents)
	t.Logf("a reading of 1,000 manifests: %s of CPU without a look at their sources, %s with one", without, with)
	if with-without > max(5*time.Millisecond, 2*bare) {
		t.Errorf("1,000 sources cost %s more, want 5ms at most, or twice the bare calls of stat, %s", with-without, bare)
	}
}

// What is wrong in an environment file has the file's own line; a secret must be a variable's
// value.
func TestEnvContents(t *testing.T) {
	roottest.Need(t)
	p := newPlaced(t, map[string]string{"m/web.files/a.env": "A=1\nexport B=s3cret\nC=2 # x\n", "m/web.files/s": "x\x00"})
	p.Contents = AllContents
	os.WriteFile(p.dir+"/m/web.yaml", []byte(manifest("web", "  rootfs: {host: {}}\n  envFiles: {a: {source: ./web.files/a.env}}\n  envSecrets: {S: {source: ./web.files/s}, T: {source: ./web.files}}\n")), 0o644)
	want := []string{
		"DIR/named/web.files/a.env:2: found export; write B=VALUE",
		"DIR/named/web.files/a.env:3: C: found a comment behind the value; write it on a line of its own, or quote the value if the # belongs to it: C='VALUE'",
		"DIR/named/web.yaml:9:28: spec.envSecrets.S.source: can't read DIR/named/web.files/s: holds a NUL character, which no variable can have; use files for it",
		"DIR/named/web.yaml:9:56: spec.envSecrets.T.source: can't read DIR/named/web.files: found a directory, want a file",
	}
	if errs, _ := p.said(); !slices.Equal(errs, want) {
		t.Errorf("got  %q\nwant %q", errs, want)
	}
	os.WriteFile(p.dir+"/m/web.files/a.env", []byte("A=1\n"), 0o644)
	os.WriteFile(p.dir+"/m/web.yaml", []byte(manifest("web", "  rootfs: {host: {}}\n  envFiles: {a: {source: ./web.files/a.env}}\n")), 0o644)
	if errs, containers := p.said(); len(errs) > 0 || len(containers) != 1 {
		t.Errorf("mended: %q", errs)
	}
}
