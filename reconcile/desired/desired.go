package desired

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// combiner is the work of one Combine.
type combiner struct {
	*Declared
	out     plan.Desired
	lost    map[claim]error // claims of names that are another's, and why
	settled map[string]bool // contested names of which it is decided whose they are

	formerly []claim // in files that hold no manifest now, and from which a container came
}

// Combine compares what is declared with what is applied. The runtime's facts hold the applied
// manifests and their origins, so Combine needs no memory and gives the same result after a
// restart of the daemon.
func (d *Declared) Combine(observed []*status.Status) *plan.Desired {
	c := combiner{Declared: d, lost: map[claim]error{}, settled: map[string]bool{}}
	c.out = plan.Desired{Host: d.Reading.Host, Declared: d.wants, Kept: map[string]*plan.Want{}, Elsewhere: d.elsewhere, Groups: d.groups, Images: d.images}
	healthy := !slices.ContainsFunc(d.Reading.Dirs, func(dir source.Dir) bool { return dir.Err != nil })
	var unusual []*status.Status
	for _, st := range observed {
		w := d.wants[st.Name]
		if w != nil && w.From.File == st.From.File && (healthy || len(st.From.DropIns) == 0) {
			continue // the manifest is where it was, and no drop-in of it can be out of sight
		}
		unusual = append(unusual, st)
		c.unusual(st, w)
	}
	for name, claims := range d.contested {
		if c.settled[name] {
			continue
		}
		if winner, there := groupIncumbent(name, claims, observed); there {
			c.loseTo(winner, name, claims)
			continue
		}
		for i, one := range claims {
			c.lost[one] = contestError(one, name, claims[(i+1)%len(claims)], "is declared by %s too: one name, one manifest; neither is created until one is renamed or deleted")
		}
	}
	c.withholdReplicas(observed)
	c.out.Dirs = d.dirs(unusual)
	c.problems(observed)
	return &c.out
}

// unusual decides about a container that has drop-ins, or is not declared by the file that it
// came from.
func (c *combiner) unusual(st *status.Status, w *plan.Want) {
	var kept *plan.Want
	gone := c.dropInGone(st.From)
	if w == nil || w.From.File != st.From.File {
		claims := c.contested[st.Name]
		if w != nil {
			claims = []claim{c.claims[st.Name]}
		}
		c.settled[st.Name] = true
		kept = c.decide(st, claims)
	}
	_, lowered := c.groups[st.Applied.Group()]
	if gone != nil && (kept == nil && (w != nil || lowered) || kept != nil && kept.Err == nil) {
		kept = keep(st, gone)
	}
	if kept != nil {
		c.out.Kept[st.Name] = kept
	}
}

// keep leaves a container as it is applied.
func keep(st *status.Status, err error) *plan.Want {
	return &plan.Want{Spec: st.Applied, Fingerprint: st.Fingerprint, From: st.From, Err: err}
}

// decide returns how a container should be whose name is not declared by the file that it came
// from; nil means as declared. Claims that lose get an error.
func (c *combiner) decide(st *status.Status, claims []claim) *plan.Want {
	origin := c.fileOf(st.From.File)
	if len(claims) == 0 {
		name := st.Applied.ManifestName()
		if err := fault(origin, name); err != nil {
			return keep(st, err)
		}
		if err := c.named[name]; err != nil {
			return keep(st, err) // moved and broken at once
		}
		return nil
	}
	if winner, ok := incumbent(st.From, claims); ok {
		c.loseTo(winner, st.Name, claims)
		return c.want(winner, winner.instance(st.Name))
	}
	if err := mayDeclare(origin, st.Applied.ManifestName()); err != nil && origin != claims[0].file {
		for _, one := range claims {
			c.lost[one] = contestErrorAt(one, st.Name, st.From.File, "is taken by %s, which can't be read now; repair or delete one")
		}
		return keep(st, err)
	}
	if err := c.overrideGone(st.From, claims[0]); err != nil {
		return keep(st, err)
	}
	if len(claims) == 1 {
		return nil // moved to another file
	}
	sortClaims(claims)
	for i, one := range claims {
		c.lost[one] = contestError(one, st.Name, claims[(i+1)%len(claims)], "is declared by %s too: one name, one manifest; rename or delete one")
	}
	return keep(st, c.lost[claims[0]])
}

// incumbent finds the claim that the container came from: the same document, or the first of
// the same file.
func incumbent(from status.Origin, claims []claim) (claim, bool) {
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

// overrideGone returns an error if the container came from a directory that can't be read now,
// and the remaining claim is the manifest that the container's own one replaced: the container
// does not fall back to it while the directory is away.
func (d *Declared) overrideGone(from status.Origin, left claim) error {
	for i, dir := range d.Reading.Dirs {
		rel, inside := strings.CutPrefix(from.File, dir.Path+"/")
		if inside && dir.Err != nil && i > left.file.Dir && rel == left.file.Rel {
			return fmt.Errorf("%s: %w", dir.Path, dir.Err)
		}
	}
	return nil
}

// dropInGone returns an error if the container was merged from a drop-in in a directory that
// can't be read now: nobody asked for the manifest without that drop-in.
func (d *Declared) dropInGone(from status.Origin) error {
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

func contestError(c claim, name string, other claim, message string) error {
	return contestErrorAt(c, name, other.position(), message)
}

func contestErrorAt(c claim, name, position, message string) error {
	return &spec.Error{
		File: c.file.Path, Line: c.doc.NameLine, Column: c.doc.NameColumn, Path: "metadata.name",
		Message: fmt.Sprintf("%q "+message, name, position),
	}
}

// dirs returns the manifest directories. An error matters unless the directory is a missing one
// of the search path from which no container came. The containers that are not in unusual came
// from files that are there.
func (d *Declared) dirs(unusual []*status.Status) []plan.Dir {
	dirs := make([]plan.Dir, len(d.Reading.Dirs))
	readable := slices.ContainsFunc(d.Reading.Dirs, func(dir source.Dir) bool { return dir.Err == nil })
	for i, dir := range d.Reading.Dirs {
		dirs[i] = plan.Dir{Path: dir.Path, Err: dir.Err, Missing: dir.Missing(), Untrusted: errors.As(dir.Err, new(*source.Refused))}
		if dir.Err == nil {
			continue
		}
		inside := func(file string) bool { return strings.HasPrefix(file, dir.Path+"/") }
		dirs[i].Matters = !dir.Missing() || !readable || slices.ContainsFunc(unusual, func(st *status.Status) bool {
			return inside(st.From.File) || slices.ContainsFunc(st.From.DropIns, inside)
		}) || slices.ContainsFunc(d.Reading.Fragments, func(f *source.File) bool { return f.Dir == i })
	}
	for _, f := range d.Reading.Files {
		dirs[f.Dir].Files++
	}
	return dirs
}
