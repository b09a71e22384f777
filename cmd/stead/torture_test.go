//go:build fault

package main

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestTorture lets a host live through a random life: manifests come, change,
// break and go, containers end and are killed, and all the while daemon and keeper
// die at any moment and at fault points, and become others by upgrade. After each
// round the host is as declared, each workload has run exactly as often as it
// should, and nothing is left over.
//
// TORTURE_TIME is how long, TORTURE_SEED what the choices follow from; moments are
// the machine's.
func TestTorture(t *testing.T) {
	length, err := time.ParseDuration(cmp.Or(os.Getenv("TORTURE_TIME"), "20s"))
	if err != nil {
		t.Fatal(err)
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("TORTURE_SEED"); s != "" {
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("TORTURE_SEED=%d", seed)
	life := newLife(t, seed)
	for end := time.Now().Add(length); time.Now().Before(end); {
		life.round++
		life.happen()
		life.look()
	}
	t.Logf("%d rounds, %d kills (%d at fault points), %d runs of %d workloads", life.round, life.kills, life.hits, life.ran(), len(life.all))
	life.end()
}

// life is a host with what should be the case on it.
type life struct {
	*testHost
	*rand.Rand // of the choices; the killer has its own
	round      int
	kills      int
	hits       int
	version    int
	all        []*workload
	programs   []string // two binaries that differ by their build id
	daemon     *process
	journal    *os.File
	story      []string // of this round
	normal     map[string]int
	killer     sync.WaitGroup
}

// workload is what is declared under a name, and how often it must have run.
type workload struct {
	name     string
	body     body
	file     string
	version  int // of what needs a restart
	memory   int // Mi, of what is live
	comment  int // of what means nothing
	declared bool
	broken   bool
	stopped  bool // by an admin
	suspend  bool // by its manifest
	removed  bool // its data is put away
	runs     int
	pid      int // when it was last looked at
}

type body string

const (
	service body = "while :; do sleep 1000 & wait; done"
	once    body = "sleep 0.1; exit 0"
	flaky   body = "[ $n -ge 3 ] || exit 1; while :; do sleep 1000 & wait; done"
)

const tortured = `apiVersion: stead/v1
kind: Container
metadata: {name: %[1]s, labels: {note: "%[2]d"}}
spec:
  rootfs: {host: {}}
  command: [sh, -c, 'echo $VERSION >>/root/ran; echo $VERSION >>/count/%[1]s; trap "exit 0" TERM; n=0; while read v; do [ $v = $VERSION ] && n=$((n+1)); done </count/%[1]s; echo run $VERSION.$n; %[3]s']
  env: {VERSION: %[4]d}
  mounts: {/count: {source: %[5]s}}
  resources: {memory: %[6]dMi}
  restart: {policy: %[7]s, backoff: {initial: 100ms, max: 200ms}}
  network: {mode: none}
`

func (l *life) text(w *workload) string {
	policy := "always"
	if w.body == once {
		policy = "never"
	}
	text := fmt.Sprintf(tortured, w.name, w.version, w.body, w.version, l.dir+"/count", w.memory, policy)
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

func newLife(t *testing.T, seed uint64) *life {
	h := newHost(t)
	l := &life{testHost: h, Rand: rand.New(rand.NewPCG(seed, 0)), normal: map[string]int{}}
	os.Mkdir(h.dir+"/count", 0o777)
	writeFile(t, h.dir+"/config.yaml", "apiVersion: stead/v1\nkind: Config\nsettle: 200ms\n")
	h.env = []string{"STEAD_CONFIG=" + h.dir + "/config.yaml"}
	l.programs = []string{os.Args[0], otherBuild(t, h.dir+"/other")}
	var err error
	if l.journal, err = os.Create(h.dir + "/daemon.log"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.journal.Close() })
	for i := range 9 {
		w := &workload{name: fmt.Sprintf("%s-%d", []string{"service", "job", "flaky"}[i%3], i), body: []body{service, once, flaky}[i%3], memory: 64}
		l.all = append(l.all, w)
		if i < 6 {
			l.come(w)
		}
	}
	l.revive(l.programs[0])
	t.Cleanup(func() { // before the host is taken down
		l.killer.Wait()
		l.daemon.kill()
	})
	l.look()
	return l
}

// come declares a workload anew, and so that it runs.
func (l *life) come(w *workload) {
	w.declared, w.removed, w.broken, w.stopped, w.suspend = true, false, false, false, false
	w.file = w.name + ".yaml"
	l.change(w)
}

// change gives it another version, for which it has to be started again.
func (l *life) change(w *workload) {
	l.version++
	w.version = l.version
	if !w.stopped && !w.suspend {
		w.runs += w.body.perVersion()
	}
	l.write(w.file, l.text(w))
}

// happen is one round: things are done to workloads, and meanwhile processes die.
func (l *life) happen() {
	l.story = nil
	killer := l.startKiller()
	var verbs []func()
	gone := false
	away := l.IntN(10) == 0
	if away { // alone: what is half-done then goes on with what was applied
		l.story = append(l.story, "the directory is away for a moment")
		os.Rename(l.manifests, l.manifests+"~")
		time.Sleep(time.Duration(l.IntN(500)) * time.Millisecond)
		os.Rename(l.manifests+"~", l.manifests)
	}
	for _, i := range l.Perm(len(l.all))[:1+l.IntN(4)] {
		if away {
			break
		}
		w := l.all[i]
		if what, verb := l.act(w, &gone); what != "" {
			l.story = append(l.story, w.name+": "+what)
			verbs = append(verbs, verb)
		}
		time.Sleep(time.Duration(l.IntN(80)) * time.Millisecond)
	}
	if w := l.all[l.IntN(len(l.all))]; l.IntN(3) == 0 {
		go l.command("exec", w.name, "sleep", "0.1").Run() // whatever comes of it
	}
	for _, verb := range verbs {
		if verb != nil {
			verb()
		}
	}
	l.story = append(l.story, <-killer...)
}

// act does one thing to a workload. What a person asks for by a verb is returned,
// to be done after the rest.
func (l *life) act(w *workload, gone *bool) (what string, verb func()) {
	if !w.declared {
		l.come(w)
		return "comes", nil
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
	switch n := l.IntN(12); {
	case n < 2:
		l.change(w)
		return fmt.Sprintf("changes to version %d", w.version), nil
	case n < 4:
		w.memory = 160 - w.memory
		l.write(w.file, l.text(w))
		return fmt.Sprintf("has a limit of %d MiB", w.memory), nil
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
		w.declared, w.removed, w.stopped = false, true, false
		os.Remove(l.manifests + "/" + w.file)
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

// startsOf is how often a workload that is stopped runs when it is started: its
// version may be one that never ran.
func (l *life) startsOf(w *workload) int {
	b, _ := os.ReadFile(l.dir + "/count/" + w.name)
	if strings.Contains("\n"+string(b), fmt.Sprintf("\n%d\n", w.version)) {
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

// insist repeats a verb until it succeeds: whoever it asks may die.
func (l *life) insist(args ...string) {
	var c call
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if c = l.stead(args...); c.code == 0 {
			return
		}
	}
	l.fail("stead %s: %+v", strings.Join(args, " "), c)
}

func (l *life) ran() (n int) {
	for _, w := range l.all {
		n += w.runs
	}
	return n
}

// end takes everything away. What is left then is seen by takeDown.
func (l *life) end() {
	for _, w := range l.all {
		os.Remove(l.manifests + "/" + w.file)
	}
	l.ok("apply", "--confirm-removal=all")
	files, _ := filepath.Glob(l.dir + "/state/containers/*")
	if len(files) > 0 {
		l.t.Errorf("left over: %v", files)
	}
}

// fail tells what led to it, and keeps nothing alive.
func (l *life) fail(format string, args ...any) {
	l.t.Helper()
	b, _ := os.ReadFile(l.journal.Name())
	lines := slices.DeleteFunc(slices.Collect(strings.Lines(string(b))), func(line string) bool { return strings.Contains(line, " held") })
	k, _ := os.ReadFile(l.run + "/keeper.log")
	l.t.Fatalf("round %d: %s\n\nin this round:\n  %s\n\nthe daemons' log ends so:\n%s\nthe keepers':\n%s",
		l.round, fmt.Sprintf(format, args...), strings.Join(l.story, "\n  "), strings.Join(lines[max(0, len(lines)-80):], ""), k[max(0, len(k)-4000):])
}
