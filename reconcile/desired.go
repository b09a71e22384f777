package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// Desired is what should be on this host: what the manifests declare, held
// against what runs, so that bad input never changes or removes anything.
type Desired struct {
	*Declared
	Invalid []InvalidManifest // documents and files that gave no container, by name

	kept   map[string]*Want // containers that stay as they are applied, and why
	missed []bool           // by directory: it can't be read, and that matters

	observed []*status.Status // what the declared was held against
	wants    []*Want          // how each of them should be, by the same index; nil: not there
	slots    []int32          // where that stands among the singles; -1 if it is no plain case
	there    []bool           // by slot: it is among the observed
	absent   []*status.Status // those that should not be there
}

// Want is one container as it should be.
type Want struct {
	Spec *spec.Container
	From Origin
	// Err is why the manifest can't be followed. Spec is then what is applied:
	// the container is kept as it is.
	Err error
	// Waiting is since when a writer has had the manifest or a drop-in of it open,
	// and Writer that file; zero if none has.
	Waiting time.Time
	Writer  string

	claim claim // that asks for it; none if Err is set
}

// InvalidManifest is one that never gave a container.
type InvalidManifest struct {
	Name string // of the document where that is readable and not in use, otherwise the file's path
	From Origin
	Errs []error
}

// Lookup returns how a container should be, nil if it should not be there.
func (d *Desired) Lookup(name string) *Want {
	if w := d.kept[name]; w != nil {
		return w
	}
	return d.single(name)
}

// wanted is Lookup for the i-th of what is observed.
func (d *Desired) wanted(i int, st *status.Status) *Want {
	if i < len(d.observed) && d.observed[i] == st {
		return d.wants[i]
	}
	return d.Lookup(st.Name)
}

// coming calls visit for every container that should be there and is not.
func (d *Desired) coming(visit func(name string, w *Want)) {
	for slot, w := range d.list {
		if w != nil && !d.there[slot] {
			visit(w.Spec.Metadata.Name, w)
		}
	}
}

// Combine holds what is declared against what runs. The runtime's records hold
// the applied manifests and where they came from, so this needs no memory of its
// own and gives the same after a restart of the daemon.
func (d *Declared) Combine(observed []*status.Status) *Desired { return d.combine(observed, nil) }

// combine is Combine. What before found of the same statuses is not looked up
// again, and not looked at where the manifest is the same too.
func (d *Declared) combine(observed []*status.Status, before *Desired) *Desired {
	out := &Desired{
		Declared: d, kept: map[string]*Want{}, observed: observed,
		wants: make([]*Want, len(observed)), slots: make([]int32, len(observed)), there: make([]bool, len(d.list)),
	}
	lost := map[claim]error{}
	settled := map[string]bool{}
	var unusual []*status.Status
	memory := recall{before, 0}
	for i, st := range observed {
		slot, same := memory.slot(d, st)
		if slot < 0 {
			slot = d.slot(st.Name)
		}
		var w *Want
		if slot >= 0 {
			w, out.there[slot] = d.list[slot], true
		}
		if same || w != nil && w.From.File == st.From.File && len(st.From.DropIns) == 0 { // the common case: the manifest is where it was
			out.wants[i], out.slots[i] = w, slot
			continue
		}
		out.slots[i] = -1
		unusual = append(unusual, st)
		out.unusual(st, w, settled, lost)
		if out.wants[i] = out.Lookup(st.Name); out.wants[i] == nil {
			out.absent = append(out.absent, st)
		}
	}
	for name, claims := range d.contested {
		if !settled[name] {
			for i, c := range claims {
				lost[c] = contestError(c, claims[(i+1)%len(claims)], "is declared by %s too: one name, one manifest; neither is created until one is renamed or deleted")
			}
		}
	}
	out.missed = d.missedDirs(unusual)
	out.listInvalid(observed, lost)
	return out
}

// unusual settles what becomes of a container that has drop-ins, or is not simply
// declared where it was.
func (d *Desired) unusual(st *status.Status, w *Want, settled map[string]bool, lost map[claim]error) {
	var kept *Want
	gone := d.dropInGone(st.From)
	if w == nil || w.From.File != st.From.File {
		claims := d.contested[st.Name]
		if w != nil {
			claims = []claim{w.claim}
		}
		settled[st.Name] = true
		kept = d.decide(st, claims, lost)
	}
	if gone != nil && (kept == nil && w != nil || kept != nil && kept.Err == nil) {
		kept = &Want{Spec: st.Applied, From: st.From, Err: gone}
	}
	if kept != nil {
		d.kept[st.Name] = kept
	}
}

// recall walks through what a combination before found, as the next one walks
// through its containers; both are sorted by name.
type recall struct {
	before *Desired
	at     int
}

// slot is where the want of the very same status was found, -1 if that is not
// known, and whether it is the same want.
func (r *recall) slot(d *Declared, st *status.Status) (slot int32, same bool) {
	if r.before == nil || r.before.lineage != d.lineage {
		return -1, false
	}
	seen := r.before.observed
	if r.at < len(seen) && seen[r.at] == st {
		slot = r.before.slots[r.at]
		r.at++
		return slot, slot >= 0 && d.list[slot] == r.before.list[slot]
	}
	for r.at < len(seen) && seen[r.at].Name <= st.Name {
		r.at++
	}
	return -1, false
}

// missedDirs tells which directories can't be read so that it matters: not one of
// a search path that is just not there, and from which nothing came. What is
// declared by a file that is there, without drop-ins, came from none of them.
func (d *Declared) missedDirs(unusual []*status.Status) []bool {
	dirs := d.Reading.Dirs
	missed := make([]bool, len(dirs))
	readable := slices.ContainsFunc(dirs, func(dir source.Dir) bool { return dir.Err == nil })
	for i, dir := range dirs {
		if dir.Err == nil {
			continue
		}
		below := dir.Path + "/"
		inside := func(file string) bool { return strings.HasPrefix(file, below) }
		missed[i] = !dir.Missing() || !readable || slices.ContainsFunc(unusual, func(st *status.Status) bool {
			return inside(st.From.File) || slices.ContainsFunc(st.From.DropIns, inside)
		}) || slices.ContainsFunc(d.Reading.Fragments, func(f *source.File) bool { return f.Dir == i })
	}
	return missed
}

// decide says what a container should be whose name is not simply declared
// where it was: nil leaves it to what is declared. Claims that lose are noted.
func (d *Declared) decide(st *status.Status, claims []claim, lost map[claim]error) *Want {
	keep := func(err error) *Want { return &Want{Spec: st.Applied, From: st.From, Err: err} }
	origin := d.fileOf(st.From.File)
	if len(claims) == 0 {
		if err := fault(origin, st.Name); err != nil {
			return keep(err)
		}
		if err := d.named[st.Name]; err != nil {
			return keep(err) // moved and broken at once
		}
		return nil
	}
	if c, ok := incumbent(st.From, claims); ok {
		for _, other := range claims {
			if other != c {
				lost[other] = contestError(other, c, "is taken by %s: one name, one manifest; rename or delete one")
			}
		}
		w := d.want(c)
		return &w
	}
	if err := mayHold(origin, st.Name); err != nil && origin != claims[0].file {
		for _, c := range claims {
			lost[c] = contestErrorAt(c, st.From.File, "is taken by %s, which can't be read now; repair or delete one")
		}
		return keep(err)
	}
	if err := d.overrideGone(st.From, claims[0]); err != nil {
		return keep(err)
	}
	if len(claims) == 1 {
		return nil // moved to another file
	}
	sortClaims(claims)
	for i, c := range claims {
		lost[c] = contestError(c, claims[(i+1)%len(claims)], "is declared by %s too: one name, one manifest; rename or delete one")
	}
	return keep(lost[claims[0]])
}

// incumbent finds the claim that the container came from: the same document, or
// the first of the same file.
func incumbent(from Origin, claims []claim) (claim, bool) {
	best, found := claim{}, false
	for _, c := range claims {
		if c.file.Path == from.File && c.doc.Index == from.Document {
			return c, true
		}
		if c.file.Path == from.File && !found {
			best, found = c, true
		}
	}
	return best, found
}

// overrideGone tells that the container came from a directory that can't be
// read now, and that what is left is the manifest which that one replaced: its
// directory will come back, the container does not fall back meanwhile.
func (d *Declared) overrideGone(from Origin, left claim) error {
	for i, dir := range d.Reading.Dirs {
		rel, inside := strings.CutPrefix(from.File, dir.Path+"/")
		if inside && dir.Err != nil && i > left.file.Dir && rel == left.file.Rel {
			return fmt.Errorf("%s: %w", dir.Path, dir.Err)
		}
	}
	return nil
}

// dropInGone tells that a container was merged from a drop-in in a directory that
// can't be read now: what the manifest would be without it, nobody asked for.
func (d *Declared) dropInGone(from Origin) error {
	if len(from.DropIns) == 0 {
		return nil
	}
	for _, dir := range d.Reading.Dirs {
		if dir.Err == nil {
			continue
		}
		for _, file := range from.DropIns {
			known := func(f *source.File) bool { return f.Path == file } // from before
			if !strings.HasPrefix(file, dir.Path+"/") || slices.ContainsFunc(d.Reading.Fragments, known) {
				continue
			}
			if dir.Missing() {
				return fmt.Errorf("drop-in %s is not known: directory %s is missing; bring it back, without the drop-in if that is meant to be gone", file, dir.Path)
			}
			return fmt.Errorf("drop-in %s is not known: directory %s can't be read: %w", file, dir.Path, dir.Err)
		}
	}
	return nil
}

func contestError(c, other claim, message string) error {
	return contestErrorAt(c, other.place(), message)
}

func contestErrorAt(c claim, place, message string) error {
	return &spec.Error{
		File: c.file.Path, Line: c.doc.NameLine, Column: c.doc.NameColumn, Path: "metadata.name",
		Message: fmt.Sprintf("%q "+message, c.doc.Container.Metadata.Name, place),
	}
}
