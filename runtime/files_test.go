package runtime

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"stead/runtime/files"
	"stead/runtime/status"

	"golang.org/x/sys/unix"
)

// sourceDir is a directory of the host that no other user can write.
func (w *world) sourceDir() string {
	w.t.Helper()
	dir := filepath.Dir(w.o.StateDir) + "/source"
	w.must(os.MkdirAll(dir, 0o755))
	return dir
}

// A container reads its files as it wants them, cannot change them, and nothing of them lies
// on a disk.
func TestFiles(t *testing.T) {
	w := newWorld(t)
	src := w.sourceDir()
	w.write(src+"/key", "canary-key\n", 0)
	w.must(os.Chmod(src+"/key", 0o640))
	w.must(os.MkdirAll(src+"/conf/sub", 0o755))
	w.write(src+"/conf/a", "a\n", 0)
	w.write(src+"/conf/sub/b", "b\n", 0)
	const look = `cat /etc/motd; sed s/canary/its/ /run/secrets/key; cat /etc/app/a /etc/app/sub/b /opt/script; stat -Lc '%n %a %u:%g' /etc/motd /run/secrets/key /run/own /etc/app /etc/app/a /etc/app/sub;
		for f in /etc/motd /run/secrets/key /etc/app/a; do (echo x >>$f) 2>/dev/null && echo "writes $f"; rm -f $f 2>/dev/null && echo "removes $f"; mv $f $f.old 2>/dev/null && echo "renames $f"; done
		(echo x >/etc/app/new) 2>/dev/null && echo "adds"; umount /etc/motd 2>/dev/null && echo "unmounts"; umount /run/stead/files 2>/dev/null && echo "unmounts all"; mount -o remount,rw,bind /run/stead/files 2>/dev/null && echo remounts; grep -c 'stead.*ro,' /proc/self/mountinfo; true`
	for _, userns := range []string{"auto", "host"} {
		got := w.run(script(look) + fmt.Sprintf(`
security: {userns: %s, capabilities: {add: [SYS_ADMIN]}}
files:
  /etc/motd: {content: "hello ${X}\n"}
  /run/secrets/key: {source: %[2]s/key, mode: "0400", owner: "nobody:7"}
  /run/own: {source: %[2]s/key}
  /etc/app: {source: %[2]s/conf}
  /opt/script: {content: "", mode: "0555"}`, userns, src))
		want := `hello ${X}
its-key
a
b
/etc/motd 444 0:0
/run/secrets/key 400 65534:7
/run/own 440 0:0
/etc/app 555 0:0
/etc/app/a 444 0:0
/etc/app/sub 555 0:0
`
		if userns == "host" { // with SYS_ADMIN it is root of the host in all but name
			got = got[:min(len(got), len(want))]
			if got != want {
				t.Errorf("userns %s: got\n%s", userns, got)
			}
			continue
		}
		if rest := strings.TrimPrefix(got, want); rest == got || strings.ContainsAny(rest, "abcdefghijklmnopqrstuvwxyz") {
			t.Errorf("userns %s: got\n%s", userns, got)
		}
	}
	if found := w.grep("canary-key", w.o.StateDir, w.o.RunDir); len(found) > 0 {
		t.Errorf("left over in %q", found)
	}
	if runs := w.files.Runs(); len(runs) > 0 {
		t.Errorf("left over: %q", runs)
	}
}

// grep lists the files below directories that hold a text.
func (w *world) grep(text string, dirs ...string) (found []string) {
	for _, dir := range dirs {
		filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
			if err == nil && info.Mode().IsRegular() {
				if b, _ := os.ReadFile(path); strings.Contains(string(b), text) {
					found = append(found, path)
				}
			}
			return nil
		})
	}
	return found
}

// What can't be read, and what no file can be put over, keeps a container from starting, and
// says why.
func TestFilesRefused(t *testing.T) {
	w := newWorld(t)
	src := w.sourceDir()
	w.must(os.MkdirAll(src+"/links", 0o755))
	w.must(os.Symlink("../key", src+"/links/a"))
	w.must(os.MkdirAll(src+"/fifos", 0o755))
	w.must(unix.Mkfifo(src+"/fifos/f", 0o600))
	w.must(unix.Mkfifo(src+"/fifo", 0o600))
	w.must(os.MkdirAll(src+"/dots/..data", 0o755))
	w.must(os.WriteFile(src+"/huge", nil, 0o600))
	w.must(os.Truncate(src+"/huge", files.MaxSize+1))
	w.must(os.Mkdir(src+"/theirs", 0o755))
	w.must(os.Symlink("../huge", src+"/theirs/link"))
	w.must(os.Chown(src+"/theirs", 1000, 1000))
	busy, err := os.OpenFile(src+"/busy", os.O_WRONLY|os.O_CREATE, 0o600)
	w.must(err)
	defer busy.Close()
	w.must(w.Writable.Add([]string{src + "/shared"}))
	w.must(os.Mkdir(src+"/shared", 0o755))
	w.write(src+"/shared/x", "x", 0)
	for _, row := range []struct{ summary, file, want string }{
		{"missing", "{source: S/none}", "files[/a]: read S/none: no such file or directory"},
		{"a FIFO", "{source: S/fifo}", "files[/a]: read S/fifo: found a FIFO, want regular files and directories"},
		{"a FIFO in a directory", "{source: S/fifos}", "files[/a]: read S/fifos: f: found a FIFO, want regular files and directories"},
		{"a link in a directory", "{source: S/links}", "files[/a]: read S/links: a: found a symbolic link, want regular files and directories"},
		{"a name of stead's own", "{source: S/dots}", "files[/a]: read S/dots: ..data: names that begin with .. are stead's own"},
		{"too large", "{source: S/huge}", "files[/a]: read S/huge: larger than 16 MiB; mount it instead"},
		{"a device", "{source: /dev/zero}", "files[/a]: read /dev/zero: found a device, want regular files and directories"},
		{"a link of another user", "{source: S/theirs/link}", "files[/a]: read S/theirs/link: S/theirs/link is a symbolic link, and others than root can write to S/theirs; write the path that it leads to"},
		{"open for writing", "{source: S/busy}", "files[/a]: read S/busy: another process has it open for writing"},
		{"what a container can write", "{source: S/shared/x}", "files[/a]: read S/shared/x: a container can write to S/shared, or once could"},
		{"nobody's", "{content: x, owner: nosuch}", "files[/a].owner: user nosuch is not in the root's /etc/passwd"},
	} {
		got := w.refused("web", script("true")+"\nfiles: {/a: "+strings.ReplaceAll(row.file, "S/", src+"/")+"}")
		if want := strings.ReplaceAll(row.want, "S/", src+"/"); !strings.HasSuffix(got, want) {
			t.Errorf("%s: got %q, want %q", row.summary, got, want)
		}
	}
	if got := w.refused("web", script("true")+"\nfiles: {/var/lib: {content: x}}"); !strings.HasSuffix(got, "mount at /var/lib: not a directory (one of source and target is a directory, the other is not)") {
		t.Errorf("over a directory: %q", got)
	}
	w.must(os.MkdirAll(src+"/mine", 0o755))
	w.write(src+"/mine/x", "x", 0)
	w.create("reader", script("sleep 1000")+"\nfiles: {/a: {source: "+src+"/mine/x}}")
	if got := w.refused("writer", script("true")+"\nmounts: {/a: {source: "+src+"/mine}}"); !strings.Contains(got, "it contains the source of files "+src+"/mine/x") {
		t.Errorf("a mount with another's source: %q", got)
	}
	w.await("reader", status.Running)
}

// A directory in memory that is no longer a tmpfs of its own gets nothing.
func TestFilesNotInMemory(t *testing.T) {
	w := newWorld(t)
	w.create("web", script("sleep 1000")+"\nfiles: {/a: {content: canary}}")
	w.must(unix.Unmount(w.files.Dir, unix.MNT_DETACH))
	w.must(unix.Mount(w.sourceDir(), w.files.Dir, "", unix.MS_BIND, ""))
	defer unix.Unmount(w.files.Dir, unix.MNT_DETACH)
	err := w.Update(ctx, parse(t, "web", script("sleep 1000")+"\nfiles: {/a: {content: canary2, onChange: none}}"), origin)
	if err == nil || !strings.Contains(err.Error(), "is not a tmpfs of its own") {
		t.Errorf("got %v", err)
	}
	if found := w.grep("canary2", w.sourceDir()); len(found) > 0 {
		t.Errorf("written to %q", found)
	}
}

// Whoever reads while a file or a directory is replaced a thousand times reads the old or the
// new as a whole, with the owner and mode that it should have.
func TestFilesThousandUpdates(t *testing.T) {
	w := newWorld(t)
	src := w.sourceDir()
	w.must(os.MkdirAll(src+"/dir", 0o755))
	fill := func(n int) {
		text := strings.Repeat(fmt.Sprintln(n), 3000)
		w.must(os.WriteFile(src+"/.new", []byte(text), 0o644))
		w.must(os.Rename(src+"/.new", src+"/file"))
		w.must(os.WriteFile(src+"/dir/a", []byte(text), 0o644))
	}
	body := `command: [perl, -e, '$| = 1; $SIG{TERM} = sub { $stop = 1 }; print "reads\n";
		    until ($stop) {
		      for my $f ("/run/file", "/etc/dir/a", "/etc/dir/..data/a") {
		        my @st = stat($f); $st[4] == 65534 && ($st[2] & 0777) == 0400 or print "WRONG stat $f: $! @st\n";
		        open(my $h, "<", $f) or print "WRONG open $f: $!\n"; my @l = <$h>; my %seen = map { $_ => 1 } @l;
		        @l == 3000 && keys %seen == 1 or print "WRONG read $f: " . @l . " lines, " . keys(%seen) . " kinds\n"; $n++;
		      }
		    } print "END $n\n"']
user: nobody
files:
  /run/file: {source: S/file, mode: "0400", onChange: none}
  /etc/dir: {source: S/dir, mode: "0400", onChange: none}`
	body = strings.ReplaceAll(strings.ReplaceAll(body, "S/", src+"/"), "\n\t\t", " ")
	fill(0)
	w.create("web", body)
	w.awaitOutput("web", "reads")
	m := parse(t, "web", body)
	for n := range races(1000) {
		fill(n + 1)
		w.must(w.Update(ctx, m, origin))
	}
	s, _ := w.Get("web")
	if entries, err := w.paths.Files(m, w.root(m)); err != nil || len(s.Files) != 2 || entries[0].Sum != s.Files[entries[0].Path].Sum {
		t.Errorf("recorded: %+v, %v", s.Files, err)
	}
	w.must(w.Stop(ctx, "web", status.StopOptions{}))
	out := w.output("web")
	if strings.Contains(out, "WRONG") || !strings.Contains(out, "END ") {
		t.Errorf("got %s", out[:min(len(out), 2000)])
	}
	t.Log(out)
}

// A reload happens once all new content can be read, by signal or by command, and again until
// it has succeeded.
func TestFilesReload(t *testing.T) {
	w := newWorld(t)
	src := w.sourceDir()
	w.write(src+"/conf", "one\n", 0)
	body := func(more string) string {
		return `command: [sh, -c, 'trap "cat /etc/conf /etc/more" HUP; echo begins; while :; do sleep 0.05; done']` + more + `
files:
  /etc/conf: {source: ` + src + `/conf, onChange: reload}
  /etc/more: {source: ` + src + `/conf, onChange: none}`
	}
	for _, row := range []struct{ name, reload, want string }{
		{"signal", "\nreload: {signal: HUP}", "begins\ntwo\ntwo\nthree\nthree\n"},
		{"exec", "\nreload: {exec: [cat, /etc/more, /etc/conf]}", "begins\ntwo\ntwo\nthree\nthree\n"},
	} {
		w.write(src+"/conf", "one\n", 0)
		w.create(row.name, body(row.reload))
		w.awaitOutput(row.name, "begins")
		for _, text := range []string{"two\n", "three\n"} {
			w.write(src+"/conf", text, 0)
			for range 2 { // the second time nothing has changed
				w.must(w.Update(ctx, parse(t, row.name, body(row.reload)), origin))
			}
			w.awaitOutput(row.name, strings.TrimSpace(text))
		}
		w.must(w.Stop(ctx, row.name, status.StopOptions{}))
		if got := w.output(row.name); got != row.want {
			t.Errorf("%s: got %q", row.name, got)
		}
	}
	const failing = "\nreload: {exec: [sh, -c, 'echo tries; test -e /tmp/works']}"
	w.create("web", body(failing))
	w.awaitOutput("web", "begins")
	w.write(src+"/conf", "four\n", 0)
	if err := w.Update(ctx, parse(t, "web", body(failing)), origin); err == nil || !strings.HasSuffix(err.Error(), "reload web: its command ended with exit code 1; see its log") {
		t.Errorf("got %v", err)
	}
	w.reopen() // the daemon dies: what was not reloaded is not recorded either
	w.must(os.WriteFile(w.dir("web")+"/upper/tmp/works", nil, 0o644))
	w.must(w.Update(ctx, parse(t, "web", body(failing)), origin))
	w.must(w.Update(ctx, parse(t, "web", body(failing)), origin))
	if got := w.output("web"); got != "begins\ntries\ntries\n" {
		t.Errorf("got %q", got)
	}
	w.create("deaf", script("echo begins; exec sleep 1000")+"\nreload: {signal: HUP}")
	w.awaitOutput("deaf", "begins")
	w.create("none", script("sleep 1000"))
	for name, want := range map[string]string{
		"deaf": "reload deaf: its first process does not take signal HUP, and the kernel drops it; with init: true the command would end",
		"none": "reload none: its manifest has no reload: reload: {signal: HUP}, or {exec: [COMMAND]}",
	} {
		if err := w.Reload(ctx, name); err == nil || err.Error() != want {
			t.Errorf("%s: got %v", name, err)
		}
	}
}

// Variables from files are in the environment of the command and of every exec, in their order,
// and no record has their values.
func TestEnvFromFiles(t *testing.T) {
	w := newWorld(t)
	src := w.sourceDir()
	w.write(src+"/a.env", "# first\nA=canary-a\nB=canary-a\nC='canary a'\nHOME=/canary\n", 0)
	w.write(src+"/b.env", "B=canary-b\nD=canary-b\n", 0)
	w.write(src+"/secret", "canary-s\n", 0)
	body := script(`env | sed s/c[a]nary/seen/ | grep -E '^([A-S]|HOME)=' | sort; echo done; exec sleep 1000`) + strings.ReplaceAll(`
env: {D: plain}
envFiles: {one: {source: S/a.env}, two: {source: S/b.env}}
envSecrets: {S: {source: S/secret}}`, "S/", src+"/")
	const want = "A=seen-a\nB=seen-b\nC=seen a\nD=plain\nHOME=/seen\nS=seen-s\n"
	w.create("web", body)
	w.awaitOutput("web", "done")
	if got := w.output("web"); got != want+"done\n" {
		t.Errorf("the command has\n%s", got)
	}
	for _, how := range []ExecOptions{{}, {User: "nobody"}} {
		how.Argv = []string{"sh", "-c", `env | sed s/c[a]nary/seen/ | grep -E '^([A-S]|HOME)=' | sort`}
		if _, got, _, err := w.exec("web", "", how); got != want || err != nil {
			t.Errorf("an exec as %q has\n%s (%v)", how.User, got, err)
		}
	}
	found := w.grep("canary", w.o.StateDir, w.o.RunDir)
	for _, file := range found {
		if !strings.HasPrefix(file, w.files.Dir+"/") {
			t.Errorf("%s tells it", file)
		}
	}
	if len(found) != 2 {
		t.Errorf("in memory are %q", found)
	}
	s, _ := w.Get("web")
	if len(s.Files) != 3 || s.Files["envSecrets.S"].Sum == "" {
		t.Errorf("recorded: %+v", s.Files)
	}
	w.reopen()
	if again, _ := w.Get("web"); len(again.Files) != 3 || again.Files["envFiles.two"] != s.Files["envFiles.two"] {
		t.Errorf("recorded after the daemon's death: %+v", again.Files)
	}
	for _, row := range []struct{ line, want string }{
		{"envFiles: {a: {source: S/none}}", "envFiles.a: read S/none: no such file or directory"},
		{"envFiles: {a: {source: S/secret}}", "envFiles.a: S/secret:1: want NAME=VALUE; a comment begins with #"},
		{"envSecrets: {A: {source: S}}", "envSecrets.A: S: found a directory, want a file"},
	} {
		if got, want := w.refused("bad", script("true")+"\n"+strings.ReplaceAll(strings.ReplaceAll(row.line, "S/", src+"/"), "S}", src+"}")), strings.ReplaceAll(strings.ReplaceAll(row.want, "S/", src+"/"), "S:", src+":"); !strings.HasSuffix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
