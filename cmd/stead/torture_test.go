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
	keeperDied bool // in this round; of the killer until it is over
	killer     sync.WaitGroup
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
		l.release()
	})
	l.look()
	return l
}

// happen is one round: things are done to workloads, and meanwhile processes die.
func (l *life) happen() {
	l.story, l.keeperDied = nil, false
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

// insist repeats a verb until it succeeds: whoever it asks may die, also after it
// is done.
func (l *life) insist(args ...string) {
	var c call
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		again := c.err != ""
		c = l.stead(args...)
		done := strings.Contains(c.err, "not on hold") || strings.Contains(c.err, "nothing was removed by that name")
		if c.code == 0 || again && done {
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
	l.release()
	l.ok("apply", "--confirm-removal=all")
	files, _ := filepath.Glob(l.dir + "/state/containers/*")
	if len(files) > 0 {
		l.t.Errorf("left over: %v", files)
	}
}

// release ends what is on hold.
func (l *life) release() {
	for _, w := range l.all {
		if w.held {
			l.stead("release", w.name)
			w.held = false
		}
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
