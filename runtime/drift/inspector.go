// Package drift finds changes that were made by hand to running containers: to limits,
// cgroups, mounts and files. It reports differences as values and repairs those that need no
// restart. It decides nothing: reconcile decides what to do about a difference.
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

// closeLooks is the number of containers that an inspection looks at closely, in turn. A
// close look costs the kernel 0.15 ms of CPU: too much for thousands of containers every
// minute. With a watch on cgroups it finds only what the watch does not report. For the other
// containers an inspection asks at a tenth of the cost which mounts they have.
const closeLooks, closeLooksWithoutWatch = 50, 100

// firstLooks is the number of further containers that an inspection may look at for the
// first time, which costs five times as much; or a quarter of all, if that is more.
const firstLooks = 300

// Differences of a container's cgroup besides its limits.
var (
	cgroupLeft = status.Difference{Field: "cgroup", Found: "left"}
	frozen     = status.Difference{Field: "cgroup", Found: "frozen"}
)

// Run is a running container to inspect. Nothing in it is ever changed in place.
type Run struct {
	Name   string
	Dir    string // of the container
	Root   string // its root directory on the host
	Facts  *store.Facts
	Record *record.Record // it runs
}

// Containers gives an Inspector the running containers and takes its findings.
type Containers interface {
	// Running returns the names of running containers, sorted.
	Running() []string
	// Run returns the run of a container, and false if it does not run.
	Run(name string) (Run, bool)
	// SetDrift takes the differences of a run that an update repairs. SetLost takes those
	// that only a restart repairs, and files that can be restored. Both return false for a
	// run that is not the current one any more, or that is being changed: the next
	// inspection looks at it again.
	SetDrift(r Run, found status.Differences) bool
	SetLost(r Run, lost, missingFiles, stale status.Differences) bool
}

// Inspector inspects the containers of one run directory.
type Inspector struct {
	Turn int // number of containers that an inspection looks at closely, in turn

	containers Containers
	host       *cgroup.Host
	runDir     string
	log        *slog.Logger

	mu      sync.Mutex // held by one inspection at a time; guards what follows
	next    string     // the container with which the next turn begins
	prints  *fingerprinter
	cgroups *cgroup.Watch    // nil where there is none
	whole   bool             // all cgroups were read since the watch began
	files   dirTime          // of RUN/containers
	seen    map[string]*seen // by container
}

// New returns an inspector. watch makes the kernel report which cgroups change, so that most
// inspections need not read them.
func New(containers Containers, host *cgroup.Host, runDir string, watch bool, log *slog.Logger) *Inspector {
	i := &Inspector{containers: containers, host: host, runDir: runDir, log: log, Turn: closeLooksWithoutWatch, prints: newFingerprinter(), seen: map[string]*seen{}}
	if !watch {
		return i
	}
	var err error
	if i.cgroups, err = host.Watch(); err != nil {
		log.Debug("kernel does not report changes of cgroups; polling them in turn", "error", err)
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

// IsWatching reports whether the kernel reports changes of cgroups and mounts (Linux 6.11).
func (i *Inspector) IsWatching() bool { return i.cgroups != nil && mountNamespaceID(os.Getpid()) != 0 }

// Inspect compares running containers with their applied manifests: all closely, or a few
// closely in turn and the others cheaply.
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

// of returns the findings of earlier inspections of a run.
func (i *Inspector) of(r Run) *seen {
	s := i.seen[r.Name]
	if s == nil || s.nonce != r.Record.Nonce {
		s = &seen{nonce: r.Record.Nonce}
		i.seen[r.Name] = s
	}
	return s
}

// changes returns the cgroups that may have changed since the last inspection, without
// changes made by this process. Without a watch there are none.
func (i *Inspector) changes(running []string, all bool) (c cgroup.Changes) {
	if i.cgroups != nil {
		homes := make(map[int]string, len(running)) // the cgroups of processes, by pid
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

// runFiles returns the names of all containers' files of this boot, as one read of the
// directory costs less than a look at each. It returns nil if no file came or went since
// the last read.
func (i *Inspector) runFiles() map[string]bool {
	dir := filepath.Join(i.runDir, "containers")
	if !i.files.changed(dir) {
		return nil
	}
	f, err := os.Open(dir)
	if err != nil {
		return map[string]bool{} // the caller looks at each
	}
	defer f.Close()
	names, _ := f.Readdirnames(-1)
	files := make(map[string]bool, len(names))
	for _, name := range names {
		files[name] = true
	}
	return files
}

// dirTime is the time when an entry of a directory last came or went.
type dirTime unix.Timespec

// changed reports whether an entry may have come or gone since the last call.
func (t *dirTime) changed(dir string) bool {
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err == nil && *t == dirTime(st.Mtim) {
		return false
	}
	*t = dirTime(st.Mtim)
	if time.Since(time.Unix(st.Mtim.Unix())) < time.Second {
		*t = dirTime{} // the next change may have the same time
	}
	return true
}

// lookAtCgroup looks at the cgroup of a run, if something says that it may have changed.
func (i *Inspector) lookAtCgroup(r Run, changes cgroup.Changes, turn bool) {
	s := i.of(r)
	s.suspect = s.suspect || turn || changes.All || changes.Groups[r.Record.ID()]
	if s.suspect || changes.Moved && !i.host.Group(r.Record.ID()).Holds(r.Record.Pid) {
		s.suspect = !i.containers.SetDrift(r, i.driftOf(r)) // false: the difference may be a change of our own
	}
}

// driftOf compares the cgroup of a run with its manifest.
func (i *Inspector) driftOf(r Run) (drift status.Differences) {
	group := i.host.Group(r.Record.ID())
	if !group.Holds(r.Record.Pid) {
		drift = append(drift, cgroupLeft)
	}
	if group.Frozen() && !group.Held() {
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
