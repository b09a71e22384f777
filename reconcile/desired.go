package reconcile

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"stead/reconcile/source"
	"stead/runtime"
	"stead/spec"
)

// Desired is what should be on this host: what the manifests declare, held
// against what runs, so that bad input never changes or removes anything.
type Desired struct {
	*Declared
	Invalid []InvalidManifest // documents and files that gave no container, by name

	kept   map[string]*Want // containers that stay as they are applied, and why
	missed []bool           // by directory: it can't be read, and that matters
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
	return d.single[name]
}

// Len counts the containers that should be there.
func (d *Desired) Len() int {
	n := len(d.single)
	for name := range d.kept {
		if d.single[name] == nil {
			n++
		}
	}
	return n
}

// each calls visit for every container that should be there, in no order.
func (d *Desired) each(visit func(name string, w *Want)) {
	for name, w := range d.single {
		if d.kept[name] == nil {
			visit(name, w)
		}
	}
	for name, w := range d.kept {
		visit(name, w)
	}
}

// Combine holds what is declared against what runs. The runtime's records hold
// the applied manifests and where they came from, so this needs no memory of its
// own and gives the same after a restart of the daemon.
func (d *Declared) Combine(observed []*runtime.Status) *Desired {
	out := &Desired{Declared: d, kept: map[string]*Want{}, missed: d.missedDirs(observed)}
	lost := map[claim]error{}
	settled := map[string]bool{}
	for i := range observed {
		st := observed[i]
		w := d.single[st.Name]
		if w != nil && w.From.File == st.From.File { // the common case: the manifest is where it was
			if err := d.dropInGone(st.From); err != nil {
				out.kept[st.Name] = &Want{Spec: st.Applied, From: st.From, Err: err}
			}
			continue
		}
		claims := d.contested[st.Name]
		if w != nil {
			claims = []claim{w.claim}
		}
		settled[st.Name] = true
		kept := d.decide(st, claims, lost)
		if err := d.dropInGone(st.From); err != nil && (kept == nil && w != nil || kept != nil && kept.Err == nil) {
			kept = &Want{Spec: st.Applied, From: st.From, Err: err}
		}
		if kept != nil {
			out.kept[st.Name] = kept
		}
	}
	for name, claims := range d.contested {
		if !settled[name] {
			for i, c := range claims {
				lost[c] = contestError(c, claims[(i+1)%len(claims)], "is declared by %s too: one name, one manifest; neither is created until one is renamed or deleted")
			}
		}
	}
	out.listInvalid(observed, lost)
	return out
}

// missedDirs tells which directories can't be read so that it matters. One of a
// search path that is just not there, and from which nothing came, does not.
func (d *Declared) missedDirs(observed []*runtime.Status) []bool {
	dirs := d.Reading.Dirs
	missed := make([]bool, len(dirs))
	readable := slices.ContainsFunc(dirs, func(dir source.Dir) bool { return dir.Err == nil })
	for i, dir := range dirs {
		if dir.Err == nil {
			continue
		}
		below := dir.Path + "/"
		inside := func(file string) bool { return strings.HasPrefix(file, below) }
		missed[i] = !dir.Missing() || !readable || slices.ContainsFunc(observed, func(st *runtime.Status) bool {
			return inside(st.From.File) || slices.ContainsFunc(st.From.DropIns, inside)
		}) || slices.ContainsFunc(d.Reading.Fragments, func(f *source.File) bool { return f.Dir == i })
	}
	return missed
}

// decide says what a container should be whose name is not simply declared
// where it was: nil leaves it to what is declared. Claims that lose are noted.
func (d *Declared) decide(st *runtime.Status, claims []claim, lost map[claim]error) *Want {
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
