//go:build clients

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"stead/reconcile"
	"stead/reconcile/events"
	"stead/reconcile/view"
)

// The tests of this file have the real clients write into a manifest directory
// under a real daemon, and count what was done: each action once, and no other.
// `make test-clients` installs the clients.

// deeds are the actions that were done since the last call, once as many as are
// wanted have been, and no other has come after them.
type deeds struct {
	h    *testHost
	seen int
}

func (d *deeds) all() (list []string) {
	d.h.t.Helper()
	err := events.Read(context.Background(), d.h.dir+"/state", events.Query{Tail: -1}, func(e events.Event) error {
		if e.Type == events.Done || e.Type == events.Failed {
			list = append(list, strings.TrimSpace(e.Action+" "+e.Container+" "+strings.TrimPrefix(string(e.Type), "done")))
		}
		return nil
	})
	if err != nil {
		d.h.t.Fatal(err)
	}
	return list
}

// breath is how long what should not come is waited for after what should. What
// comes later is found by the next look: at the end at rest, when the settle time
// is over.
const breath = 500 * time.Millisecond

// want waits for these actions, in any order. Nothing else may come.
func (d *deeds) want(what string, want ...string) {
	d.h.t.Helper()
	slices.Sort(want)
	var got []string
	for end := time.Now().Add(5 * time.Minute); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if got = d.all()[d.seen:]; len(got) >= len(want) {
			break
		}
	}
	time.Sleep(breath)
	got = d.all()[d.seen:]
	d.seen += len(got)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		d.h.t.Errorf("%s: done %q, want %q", what, got, want)
	}
}

// some waits as want does; what is done, once or several times, is this only.
func (d *deeds) some(what, only string) {
	d.h.t.Helper()
	time.Sleep(breath)
	got := d.all()[d.seen:]
	d.seen += len(got)
	if len(got) == 0 || slices.ContainsFunc(got, func(deed string) bool { return deed != only }) {
		d.h.t.Errorf("%s: done %q, want %q only", what, got, only)
	}
}

// rest waits for what a settle time may still hold back: nothing may come.
func (d *deeds) rest() {
	d.h.t.Helper()
	time.Sleep(reconcile.DefaultSettle + breath)
	d.want("at rest")
}

func hosted(t *testing.T) (*testHost, *deeds) {
	h := newHost(t)
	return h, &deeds{h: h}
}

// sh runs a script in a directory, as the person at the host would.
func (h *testHost) sh(dir, script string) string {
	h.t.Helper()
	cmd := exec.Command("bash", "-euc", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "M="+h.manifests, "HOME="+h.dir, "GIT_CONFIG_GLOBAL="+h.dir+"/gitconfig", "GIT_CONFIG_SYSTEM=/dev/null")
	out, err := cmd.CombinedOutput()
	if err != nil {
		h.t.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return string(out)
}

// quick is a container that is cheap to run.
func quick(name, more string) string {
	return fmt.Sprintf("apiVersion: stead/v1\nkind: Container\nmetadata: {name: %s}\nspec:\n  rootfs: {host: {}}\n  command: [sleep, infinity]\n  network: {mode: none}\n%s", name, more)
}

// repository makes one, with a checkout that has these files.
func (h *testHost) repository(files map[string]string) (work string) {
	h.t.Helper()
	work = h.dir + "/work"
	h.sh(h.dir, `git config --global user.email admin@example.com; git config --global user.name Admin
		git config --global init.defaultBranch main; git config --global advice.detachedHead false
		git init -q --bare origin.git; git clone -q origin.git work 2>/dev/null; cd work; git checkout -q -b main`)
	for name, text := range files {
		writeFile(h.t, work+"/"+name, text)
	}
	h.sh(work, `git add -A; git commit -qm begin; git push -q origin main; git -C ../origin.git symbolic-ref HEAD refs/heads/main`)
	return work
}

func TestGit(t *testing.T) {
	h, did := hosted(t)
	work := h.repository(map[string]string{"web.yaml": quick("web", ""), "db.yaml": quick("db", ""), "job.yaml": quick("job", ""), "README.md": "no manifest\n"})
	h.sh(h.dir, `git clone -q origin.git "$M"`)
	h.startDaemon()
	did.want("clone", "create web", "create db", "create job")
	push := func(message, script string) {
		t.Helper()
		h.sh(work, script+"\ngit add -A; git commit -qm '"+message+"'; git push -q")
		h.sh(h.manifests, "git pull -q")
	}

	writeFile(t, work+"/cache.yaml", quick("cache", ""))
	push("add, edit, rename", `echo '  resources: {pids: 50}' >>web.yaml; git mv db.yaml database.yaml`)
	did.want("a pull that adds, edits and renames", "create cache", "update web")

	push("delete", "git rm -q job.yaml")
	did.want("a pull that deletes", "remove job")

	h.sh(h.manifests, `cat >left.yaml <cache.yaml; sed -i s/cache/left/ left.yaml`)
	did.want("an untracked file", "create left")
	h.sh(h.manifests, "git clean -qfd")
	did.want("git clean", "remove left")

	h.sh(h.manifests, "echo '  resources: {pids: 60}' >>cache.yaml; git stash -q")
	h.sh(h.manifests, "git stash pop -q")
	did.some("stash and pop", "update cache") // there, away and there again: as many times as were seen
	h.sh(h.manifests, "git checkout -q -- cache.yaml")
	did.want("git checkout of a file", "update cache")

	before := h.until("web", "running", running)
	h.sh(work, "sed -i s/50/70/ web.yaml; git commit -qam theirs; git push -q")
	h.sh(h.manifests, "sed -i s/50/80/ web.yaml; git commit -qam ours; ! git pull -q --no-rebase 2>/dev/null; grep -q '<<<<<<<' web.yaml")
	h.until("web", "in error", func(v view.Container) bool {
		return v.Sync == view.SyncError && strings.Contains(v.Why, "merge conflict") && v.Pid == before.Pid
	})
	// What was applied between the commit and the conflict, if anything was seen of
	// it, is "ours"; the conflict changes nothing.
	h.sh(h.manifests, "git checkout -q --theirs web.yaml; git add -A; git commit -qm merged")
	v := h.until("web", "merged", func(v view.Container) bool { return v.Sync == view.Synced })
	if v.Pid != before.Pid {
		t.Errorf("a merge conflict restarted it: %+v", v)
	}
	time.Sleep(breath)
	for _, deed := range did.all()[did.seen:] {
		if deed != "update web" {
			t.Errorf("a merge conflict and its solution: %s", deed)
		}
	}
}

// A branch that changes 200 of 1,000 containers at once, and back: each is acted
// on once, and what goes and comes back has its root again.
func TestGitBranches(t *testing.T) {
	h, did := hosted(t)
	const all, gone, edited, added = 1000, 40, 120, 40
	files := map[string]string{}
	file := func(i int) (name, text string) {
		name = fmt.Sprintf("c%04d", i)
		text = strings.Replace(quick(name, "  resources: {pids: 20}\n"), "mode: none", "mode: host", 1)
		return name, text
	}
	var creates, there, back []string
	for i := range all {
		name, text := file(i)
		files[name+".yaml"] = text
		creates = append(creates, "create "+name)
	}
	work := h.repository(files)
	h.sh(work, "git checkout -q -b other")
	for i := range all + added {
		name, text := file(i)
		switch {
		case i < gone:
			h.remove(work + "/" + name + ".yaml")
			there, back = append(there, "remove "+name), append(back, "create "+name)
		case i < gone+edited:
			writeFile(t, work+"/"+name+".yaml", strings.Replace(text, "pids: 20", "pids: 30", 1))
			there, back = append(there, "update "+name), append(back, "update "+name)
		case i >= all:
			writeFile(t, work+"/"+name+".yaml", text)
			there, back = append(there, "create "+name), append(back, "remove "+name)
		}
	}
	h.sh(work, "git add -A; git commit -qm other; git push -q origin other")
	h.sh(h.dir, `git clone -q origin.git "$M"`)
	h.startDaemon()
	did.want("clone", creates...)
	writeFile(t, h.dir+"/state/containers/c0000/upper/root/mark", "mine")
	h.sh(h.manifests, "git checkout -q other")
	did.want("the other branch", there...)
	h.sh(h.manifests, "git checkout -q main")
	did.want("and back", back...)
	did.rest()
	if b, err := os.ReadFile(h.dir + "/state/containers/c0000/upper/root/mark"); err != nil || string(b) != "mine" {
		t.Errorf("its root is another: %q, %v", b, err)
	}
}

func (h *testHost) remove(file string) {
	h.t.Helper()
	if err := os.Remove(file); err != nil {
		h.t.Fatal(err)
	}
}

// As git-sync does it: a worktree for each revision, and a link that is swapped.
func TestGitSync(t *testing.T) {
	h, did := hosted(t)
	work := h.repository(map[string]string{"web.yaml": quick("web", ""), "db.yaml": quick("db", "")})
	if err := os.Remove(h.manifests); err != nil {
		t.Fatal(err)
	}
	sync := func() {
		t.Helper()
		h.sh(h.dir, `[ -d sync ] || git clone -q --no-checkout origin.git sync; cd sync; git fetch -q; rev=$(git rev-parse origin/main)
			old=; [ ! -L "$M" ] || old=$(readlink -f "$M")
			git worktree add -q ../rev-$rev $rev; ln -sfn rev-$rev "$M.tmp"; mv -T "$M.tmp" "$M"
			[ -z "$old" ] || git worktree remove --force "$old"`)
	}
	sync()
	h.startDaemon()
	did.want("the first revision", "create web", "create db")
	h.sh(work, `echo '  resources: {pids: 50}' >>web.yaml; git commit -qam edit; git push -q`)
	sync()
	did.want("a flip to a revision that edits one", "update web")
	h.sh(work, `git commit -q --allow-empty -m nothing; git push -q`)
	sync()
	did.want("a flip to one that changes nothing")
	h.sh(work, `git rm -q db.yaml; git commit -qm remove; git push -q`)
	sync()
	did.want("a flip to one that removes one", "remove db")
	did.rest()
}

// Editors and tools, each as it is: an edit is one live change, whatever the
// client does with the file on the way.
func TestEditorsAndTools(t *testing.T) {
	h, did := hosted(t)
	h.write("web.yaml", quick("web", "  resources: {pids: 1000}\n"))
	h.startDaemon()
	did.want("at first", "create web")
	pids := 1000
	for _, client := range []struct{ name, script string }{
		{"vim", `vim -u NONE -n -es -c '%s/pids: [0-9]*/pids: @N/' -c wq web.yaml`},
		{"vim with a backup and a swap file", `vim -u NONE -es --cmd 'set backup backupcopy=no directory=. updatecount=1' -c '%s/pids: [0-9]*/pids: @N/' -c wq web.yaml`},
		{"vim that writes in place", `vim -u NONE -es --cmd 'set backup backupcopy=yes' -c '%s/pids: [0-9]*/pids: @N/' -c wq web.yaml`},
		{"nano", `sed 's/pids: [0-9]*/pids: @N/' web.yaml >"$HOME/new"
			printf '\013%.0s' {1..12} >"$HOME/keys"; printf '\022%s\r\017\r\030' "$HOME/new" >>"$HOME/keys"
			(sleep 1; cat "$HOME/keys"; sleep 1) | TERM=xterm script -qec 'nano -I web.yaml' /dev/null >/dev/null`},
		{"sed -i", `sed -i 's/pids: [0-9]*/pids: @N/' web.yaml`},
		{"cp over it", `sed 's/pids: [0-9]*/pids: @N/' web.yaml >"$HOME/new"; cp "$HOME/new" web.yaml`},
		{"rsync", `mkdir -p "$HOME/from"; sed 's/pids: [0-9]*/pids: @N/' web.yaml >"$HOME/from/web.yaml"; rsync -aI "$HOME/from/" .`},
		{"rsync in place", `sed 's/pids: [0-9]*/pids: @N/' web.yaml >"$HOME/from/web.yaml"; rsync -aI --inplace "$HOME/from/" .`},
		{"a slow writer", `sed 's/pids: [0-9]*/pids: @N/' web.yaml >"$HOME/new"; while IFS= read -r l; do echo "$l"; sleep 0.3; done <"$HOME/new" | tee web.yaml >/dev/null`},
		{"perl -i", `perl -pi -e 's/pids: [0-9]*/pids: @N/' web.yaml`},
	} {
		pids++
		h.sh(h.manifests, strings.ReplaceAll(client.script, "@N", fmt.Sprint(pids)))
		did.want(client.name, "update web")
		if b, _ := os.ReadFile(h.manifests + "/web.yaml"); !strings.Contains(string(b), fmt.Sprintf("pids: %d}", pids)) {
			t.Fatalf("%s did not write what it was to:\n%s", client.name, b)
		}
	}
	for _, nothing := range []struct{ name, script string }{
		{"touch", "touch web.yaml"},
		{"chmod", "chmod 600 web.yaml; chmod 644 web.yaml"},
		{"a rewrite with the same meaning", `printf '# the same\n---\n%s\n' "$(cat web.yaml)" >"$HOME/new"; mv "$HOME/new" web.yaml`},
		{"CRLF", `sed -i 's/$/\r/' web.yaml`},
		{"a backup beside it", "cp web.yaml web.yaml~; cp web.yaml web.yaml.bak; cp web.yaml .web.yaml.swp; cp web.yaml '#web.yaml#'"},
	} {
		h.sh(h.manifests, nothing.script)
		did.want(nothing.name)
	}
	h.sh(h.manifests, "mkdir sub; mv web.yaml sub/other.yaml")
	did.want("a move into a folder")
	h.sh(h.manifests, "mv sub aside; sleep 1; mv aside sub")
	did.want("a folder that is renamed and back")
	did.rest()
}

// program makes a stead that other programs can call.
func (h *testHost) program() (path string) {
	h.t.Helper()
	path = h.dir + "/stead"
	script := "#!/bin/sh\nexport"
	for _, v := range h.command().Env {
		if strings.HasPrefix(v, "STEAD_") || strings.HasPrefix(v, asProgram) || strings.HasPrefix(v, "GORACE") {
			script += " '" + v + "'"
		}
	}
	writeFile(h.t, path, script+"\nexec "+os.Args[0]+" \"$@\"\n")
	if err := os.Chmod(path, 0o755); err != nil {
		h.t.Fatal(err)
	}
	return path
}

// The hook of the examples keeps a broken manifest out of the repository.
func TestGitHook(t *testing.T) {
	h, _ := hosted(t)
	work := h.repository(map[string]string{"web.yaml": quick("web", "")})
	hook, err := filepath.Abs("../../examples/gitops/pre-commit")
	if err != nil {
		t.Fatal(err)
	}
	h.sh(work, "ln -s "+hook+" .git/hooks/pre-commit; export STEAD="+h.program()+`
		sed -i s/command:/comand:/ web.yaml; git add -A; sed -i s/comand:/command:/ web.yaml
		! git commit -qm broken 2>err; grep "web.yaml:6:3: spec.comand: unknown field" err; rm err
		git add -A; echo '  resources: {pids: 9}' >>web.yaml; git add -A; git commit -qm sound`)
}

func TestAnsible(t *testing.T) {
	h, did := hosted(t)
	h.stead("apply") // makes the state directory, of which the deeds are
	stead := h.program()
	example, err := filepath.Abs("../../examples/ansible")
	if err != nil {
		t.Fatal(err)
	}
	h.sh(h.dir, "cp -r "+example+" play")
	play := func(more string) (string, error) {
		cmd := exec.Command("bash", "-c", "ansible-playbook -i localhost, -c local play/playbook.yaml -e stead="+stead+" -e manifests="+h.manifests+" "+more)
		cmd.Dir = h.dir
		cmd.Env = append(os.Environ(), "HOME="+h.dir, "ANSIBLE_NOCOLOR=1", "LC_ALL=C.UTF-8")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	recap := func(out string, err error, want string) {
		t.Helper()
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("%v, want %s:\n%s", err, want, out)
		}
	}
	out, err := play("--check --diff")
	recap(out, err, "failed=0")
	did.want("--check")
	if files, _ := os.ReadDir(h.manifests); len(files) > 0 {
		t.Errorf("--check wrote %v", files)
	}
	out, err = play("")
	recap(out, err, "changed=3")
	did.want("the first run", "create clock", "create worker-blue", "create worker-green")
	out, err = play("")
	recap(out, err, "changed=0")
	did.want("the second run")
	out, err = play("-e greeting=hi")
	recap(out, err, "changed=2")
	did.want("another greeting", "restart worker-blue", "restart worker-green")
	h.sh(h.dir, "sed -i s/command:/comand:/ play/files/clock.yaml")
	out, err = play("")
	if err == nil || !strings.Contains(out, "spec.comand: unknown field; did you mean command?") {
		t.Errorf("a bad manifest: %v\n%s", err, out)
	}
	did.want("a bad manifest")
	if out := h.ok("validate", h.manifests); strings.Contains(out, "comand") {
		t.Errorf("the bad manifest landed: %s", out)
	}
}

// A real change takes effect within the cap while another file is written to
// every 10 ms.
func TestBusyDirectory(t *testing.T) {
	h, _ := hosted(t)
	h.write("web.yaml", quick("web", ""))
	h.startDaemon()
	h.until("web", "running", running)
	noise := exec.Command("bash", "-c", `while :; do echo "# $RANDOM" >"$0"; sleep 0.01; done`, h.manifests+"/noise.yaml")
	if err := noise.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = noise.Process.Signal(syscall.SIGKILL)
		_ = noise.Wait()
	}()
	var worst time.Duration
	for i := range 60 {
		want := int64(100 + i)
		began := time.Now()
		h.write("web.yaml", quick("web", fmt.Sprintf("  resources: {pids: %d}\n", want)))
		for {
			d := h.ok("inspect", "web")
			if strings.Contains(d, fmt.Sprintf(`"pids": %d`, want)) {
				break
			}
			if time.Since(began) > 10*time.Second {
				t.Fatalf("the change is not there after %s:\n%s", time.Since(began), d)
			}
		}
		worst = max(worst, time.Since(began))
		time.Sleep(100 * time.Millisecond)
	}
	t.Logf("a change under constant writes takes effect within %s", worst)
	if worst > 2*time.Second {
		t.Errorf("a change took %s under constant writes", worst)
	}
}
