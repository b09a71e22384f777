//go:build fault

package main

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// workload is what is declared under a name, and how often it must have run.
type workload struct {
	name     string
	body     body
	file     string
	version  int // of what needs a restart
	dropIn   int // the version that a drop-in says instead; 0 if there is none
	memory   int // Mi, of what is live
	comment  int // of what means nothing
	declared bool
	broken   bool
	stopped  bool // by an admin
	suspend  bool // by its manifest
	held     bool // on hold
	removed  bool // its data is put away
	runs     int
	pid      int // when it was last looked at

	restartWaits, limitWaits bool            // for the release
	forgotten                int             // bytes of its count that its root does not know of, as it was purged
	unlogged                 map[string]bool // lines that were lost with a keeper
}

// applied is the version that it should run in.
func (w *workload) applied() int {
	if w.dropIn > 0 {
		return w.dropIn
	}
	return w.version
}

type body string

const (
	service body = "while :; do sleep 1000 & wait; done"
	once    body = "sleep 0.1; exit 0"
	flaky   body = "[ $n -ge 3 ] || exit 1; while :; do sleep 1000 & wait; done"
)

const tortured = `apiVersion: stead/v1
kind: Container
metadata: {name: %[1]s}
spec:
  rootfs: {host: {}}
  command: [sh, -c, 'echo $VERSION >>/root/ran; echo $VERSION >>/count/%[1]s; trap "exit 0" TERM; n=0; while read v; do [ $v = $VERSION ] && n=$((n+1)); done </count/%[1]s; echo run $VERSION.$n; %[2]s']
  env: {VERSION: %[3]d}
  mounts: {/count: {source: %[4]s}}
  resources: {memory: %[5]dMi}
  restart: {policy: %[6]s, backoff: {initial: 100ms, max: 200ms}}
  network: {mode: none}
`

func (l *life) text(w *workload) string {
	policy := "always"
	if w.body == once {
		policy = "never"
	}
	text := fmt.Sprintf(tortured, w.name, w.body, w.version, l.dir+"/count", w.memory, policy)
	if w.suspend {
		text += "  suspend: true\n"
	}
	if w.broken {
		text = strings.Replace(text, "network:", "netwrok:", 1)
	}
	return fmt.Sprintf("# %d\n%s", w.comment, text)
}

// perVersion is how often a version runs until it is at rest.
func (b body) perVersion() int {
	if b == flaky {
		return 3
	}
	return 1
}

// come declares a workload anew, and so that it runs.
func (l *life) come(w *workload) {
	w.declared, w.removed, w.broken, w.stopped, w.suspend = true, false, false, false, false
	w.file = w.name + ".yaml"
	l.change(w)
}

// change gives it another version, for which it has to be started again unless a
// drop-in says another.
func (l *life) change(w *workload) {
	l.version++
	w.version = l.version
	switch {
	case w.dropIn > 0:
	case w.held:
		w.restartWaits = true
	default:
		w.runs += l.startsOf(w)
	}
	l.write(w.file, l.text(w))
}

// changeDropIn has its drop-in come, change or go.
func (l *life) changeDropIn(w *workload) string {
	folder, what := l.manifests+"/"+w.name+".container.d", "changes to version %d by a drop-in"
	if w.dropIn > 0 && l.IntN(2) == 0 {
		os.RemoveAll(folder)
		w.dropIn, what = 0, "goes back to version %d without a drop-in"
	} else {
		l.version++
		w.dropIn = l.version
		os.MkdirAll(folder, 0o755)
		l.write(w.name+".container.d/10-version.yaml", fmt.Sprintf("spec: {env: {VERSION: %d}}\n", w.dropIn))
	}
	w.runs += l.startsOf(w)
	return fmt.Sprintf(what, w.applied())
}

// limit gives it the other memory limit.
func (l *life) limit(w *workload) string {
	w.memory = 160 - w.memory
	w.limitWaits = w.held && !w.limitWaits
	l.write(w.file, l.text(w))
	return fmt.Sprintf("has a limit of %d MiB", w.memory)
}

// act does one thing to a workload. What a person asks for by a verb is returned,
// to be done after the rest.
func (l *life) act(w *workload, gone *bool) (what string, verb func()) {
	if !w.declared {
		if w.removed && l.IntN(3) == 0 {
			b, _ := os.ReadFile(l.dir + "/count/" + w.name)
			w.removed, w.forgotten, w.unlogged = false, len(b), nil
			return "is purged", func() { l.insist("purge", w.name) }
		}
		l.come(w)
		return "comes", nil
	}
	if w.held {
		return l.actHeld(w)
	}
	if w.broken {
		w.broken = false
		if l.IntN(2) == 0 {
			l.write(w.file, l.text(w))
			return "is mended", nil
		}
		l.change(w)
		return "is mended and changed", nil
	}
	switch n := l.IntN(15); {
	case n == 14 && !w.stopped && !w.suspend:
		w.held = true
		return "is put on hold", func() { l.insist("hold", w.name) }
	case n > 11:
		return l.changeDropIn(w), nil
	case n < 2:
		l.change(w)
		return fmt.Sprintf("changes to version %d", w.version), nil
	case n < 4:
		return l.limit(w), nil
	case n == 4:
		w.comment++
		before := w.file
		w.file = fmt.Sprintf("%s-%d.yaml", w.name, w.comment)
		l.write(before, l.text(w))
		os.Rename(l.manifests+"/"+before, l.manifests+"/"+w.file)
		return "moves to " + w.file, nil
	case n == 5:
		w.broken = true
		l.write(w.file, l.text(w))
		return "breaks", nil
	case n == 6 && !*gone:
		*gone = true
		w.declared, w.removed, w.stopped, w.dropIn = false, true, false, 0
		os.Remove(l.manifests + "/" + w.file)
		os.RemoveAll(l.manifests + "/" + w.name + ".container.d") // it changes nothing any more
		return "goes", nil
	case w.body == once:
		return "", nil
	case w.stopped:
		w.stopped = false
		w.runs += l.startsOf(w)
		return "is started", func() { l.insist("start", w.name) }
	case w.suspend:
		w.suspend = false
		w.runs += l.startsOf(w)
		l.write(w.file, l.text(w))
		return "is resumed", nil
	case n < 9:
		w.runs++
		return "is killed", l.killed(w)
	case n == 9:
		w.suspend = true
		l.write(w.file, l.text(w))
		return "is suspended", nil
	}
	w.stopped = true
	return "is stopped", func() { l.insist("stop", w.name) }
}

// actHeld does one thing to a workload that is on hold.
func (l *life) actHeld(w *workload) (what string, verb func()) {
	switch n := l.IntN(5); {
	case n == 0:
		l.change(w)
		return fmt.Sprintf("changes to version %d on hold", w.version), nil
	case n == 1:
		return l.limit(w) + " on hold", nil
	case n == 2 && w.body != once:
		w.runs++
		return "is killed on hold", l.killed(w)
	}
	w.held = false
	if w.restartWaits {
		w.runs += l.startsOf(w)
	}
	w.restartWaits, w.limitWaits = false, false
	return "is released", func() { l.insist("release", w.name) }
}

// startsOf is how often a workload runs when it is started now: its version may be
// one that never ran.
func (l *life) startsOf(w *workload) int {
	if w.stopped || w.suspend {
		return 0
	}
	b, _ := os.ReadFile(l.dir + "/count/" + w.name)
	if strings.Contains("\n"+string(b), fmt.Sprintf("\n%d\n", w.applied())) {
		return 1
	}
	return w.body.perVersion()
}

// killed ends the command of a workload that runs, now.
func (l *life) killed(w *workload) func() {
	pid := w.pid // as of the last look
	group, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	if pid == 0 || !strings.Contains(string(group), l.group) {
		l.fail("%s: process %d is not ours", w.name, pid)
	}
	unix.Kill(pid, unix.SIGKILL)
	return nil
}
