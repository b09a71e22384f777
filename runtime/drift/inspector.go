// Package drift looks for what was changed by hand at containers that run: limits, cgroups,
// mounts, files. It reports differences as values and puts right what can be put right
// without a restart. It decides nothing: what is done about a difference is reconcile's.
package drift

import (
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"stead/runtime/cgroup"
	"stead/runtime/record"
	"stead/runtime/specconv"
	"stead/runtime/status"
	"stead/runtime/store"

	"golang.org/x/sys/unix"
)

// closeLooks are how many containers an inspection reads everything of, in their turn. That
// takes the kernel 0.15 ms of CPU each: too much for thousands every minute. With a
// watch on cgroups that is for what nobody tells of. Of the others it is asked what
// costs a tenth: which mounts there are.
const closeLooks, closeLooksUntold = 50, 100

// firstLooks are how many, besides, an inspection may look at that none has seen yet: the
// first time costs five times as much. A quarter, if that is more.
const firstLooks = 300

// What may be found about a container's cgroup besides its limits.
var (
	cgroupLeft = status.Difference{Field: "cgroup", Found: "left"}
	frozen     = status.Difference{Field: "cgroup", Found: "frozen"}
)

// Run is a run of a container to be inspected. Nothing in it is ever changed in place.
type Run struct {
	Name   string
	Dir    string // of the container
	Root   string // its root directory on the host
	Facts  *store.Facts
	Record *record.Record // it runs
}

// Containers is what an Inspector asks of whoever knows the containers.
type Containers interface {
	// Running returns the names of containers that run, sorted.
	Running() []string
	// Run returns the run of a container, and false if it does not run.
	Run(name string) (Run, bool)
	// SetDrift takes what an update puts right about the cgroup of a run, and SetLost what
	// only a restart does, with files that can be put back. They return false for a run that
	// is no longer the current one, or that is just being changed: it is looked at again.
	SetDrift(r Run, found status.Differences) bool
	SetLost(r Run, lost, strayed status.Differences) bool
}

// Inspector inspects the containers of one run directory.
type Inspector struct {
	Turn int // how many containers an inspection looks at closely in their turn

	containers Containers
	host       *cgroup.Host
	runDir     string
	log        *slog.Logger

	mu      sync.Mutex // held by one inspection at a time; guards what follows
	next    string     // where the next turn begins
	prints  *fingerprinter
	cgroups *cgroup.Watch    // nil where there is none
	whole   bool             // all cgroups were read since it is there
	files   dirTime          // of RUN/containers
	seen    map[string]*seen // by container
}

// New returns an inspector. watch has the kernel note who writes to cgroups, so that most
// inspections need not read them.
func New(containers Containers, host *cgroup.Host, runDir string, watch bool, log *slog.Logger) *Inspector {
	i := &Inspector{containers: containers, host: host, runDir: runDir, log: log, Turn: closeLooksUntold, prints: newFingerprinter(), seen: map[string]*seen{}}
	if !watch {
		return i
	}
	var err error
	if i.cgroups, err = host.Watch(); err != nil {
		log.Debug("changes of cgroups are looked for in turns: the kernel does not tell of them", "error", err)
		return i
	}
	i.Turn = closeLooks
	return i
}

// Close ends the watch on cgroups.
func (i *Inspector) Close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.cgroups != nil {
		i.cgroups.Close()
		i.cgroups = nil
	}
}

// IsTold reports whether the kernel tells which cgroups and mounts were changed (Linux 6.11).
func (i *Inspector) IsTold() bool { return i.cgroups != nil && mountSpace(os.Getpid()) != 0 }

// Inspect compares what runs with what was applied: all of it closely, or some in their
// turn and the others for what costs little.
func (i *Inspector) Inspect(all bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	running := i.containers.Running()
	changes, files := i.changes(running, all), i.runFiles()
	from, _ := slices.BinarySearch(running, i.next)
	first := max(firstLooks, len(running)/4)
	for n := range running {
		name, turn := running[(from+n)%len(running)], n < i.Turn
		if turn {
			i.next = name + "\x00" // the next name
		}
		if r, runs := i.containers.Run(name); runs {
			i.lookAtCgroup(r, changes, turn)
			closely := turn || all
			if !closely && !i.of(r).before {
				if first--; first < 0 {
					continue
				}
			}
			i.lookAtMounts(r, files, closely)
		}
	}
	if len(i.seen) > len(running) {
		maps.DeleteFunc(i.seen, func(name string, _ *seen) bool {
			_, runs := slices.BinarySearch(running, name)
			return !runs
		})
	}
}

// of returns what inspections remember of a run.
func (i *Inspector) of(r Run) *seen {
	s := i.seen[r.Name]
	if s == nil || s.nonce != r.Record.Nonce {
		s = &seen{nonce: r.Record.Nonce}
		i.seen[r.Name] = s
	}
	return s
}

// changes are what may have changed in cgroups since the last inspection, all that this
// process did not do. Without a watch nothing is known to.
func (i *Inspector) changes(running []string, all bool) (c cgroup.Changes) {
	if i.cgroups != nil {
		homes := make(map[int]string, len(running)) // the cgroups that processes belong into
		for _, name := range running {
			if r, runs := i.containers.Run(name); runs {
				homes[r.Record.Pid] = r.Record.ID()
			}
		}
		c = i.cgroups.Changes(homes)
	}
	c.All = c.All || all && !(i.cgroups != nil && i.whole)
	i.whole = i.whole || all
	return c
}

// runFiles are the names of all containers' files of this boot: one reading costs less
// than to ask for each. nil if none came or went since the last reading.
func (i *Inspector) runFiles() map[string]bool {
	dir := filepath.Join(i.runDir, "containers")
	if !i.files.changed(dir) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return map[string]bool{} // each is asked for
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	files := make(map[string]bool, len(names))
	for _, name := range names {
		files[name] = true
	}
	return files
}

// dirTime is when something last came into a directory or went.
type dirTime unix.Timespec

// changed says whether that may have been since it was last asked.
func (t *dirTime) changed(dir string) bool {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err == nil && *t == dirTime(st.Mtim) {
		return false
	}
	*t = dirTime(st.Mtim)
	if time.Since(time.Unix(st.Mtim.Unix())) < time.Second {
		*t = dirTime{} // what comes next may bear the same time
	}
	return true
}

// lookAtCgroup looks at the cgroup of a run, if something says that it may have changed.
func (i *Inspector) lookAtCgroup(r Run, changes cgroup.Changes, turn bool) {
	s := i.of(r)
	s.suspect = s.suspect || turn || changes.All || changes.Groups[r.Record.ID()]
	if s.suspect || changes.Moved && !i.host.Group(r.Record.ID()).Holds(r.Record.Pid) {
		s.suspect = !i.containers.SetDrift(r, i.driftOf(r)) // what differs may be our own doing
	}
}

func (i *Inspector) driftOf(r Run) (drift status.Differences) {
	group := i.host.Group(r.Record.ID())
	if !group.Holds(r.Record.Pid) {
		drift = append(drift, cgroupLeft)
	}
	if group.Frozen() {
		drift = append(drift, frozen)
	}
	want := specconv.Limits(r.Facts.Manifest)
	for _, u := range r.Facts.Unapplied {
		specconv.Forget(&want, u.Path)
	}
	for _, d := range group.Drift(want) {
		path := "spec.resources." + d.Field
		if !slices.ContainsFunc(r.Facts.Unapplied, func(u status.Unapplied) bool { return u.Path == path }) {
			drift = append(drift, status.Difference{Field: path, Wanted: d.Want, Found: d.Have})
		}
	}
	return drift
}
