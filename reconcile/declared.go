package reconcile

import (
	"cmp"
	"fmt"
	"slices"
	"sync"
	"time"

	"stead/reconcile/source"
	"stead/spec"
)

// Declared is what a reading says by itself, before it is held against what
// runs. It is made once for a reading and never changed.
type Declared struct {
	Reading *source.Reading

	singles                                  // names that one valid document claims
	contested map[string][]claim             // names that several claim
	elsewhere map[string]claim               // names that only manifests for other hosts claim, or these too
	invalid   []claim                        // documents with errors
	broken    []*source.File                 // files that can't be read as a whole
	waiting   []*source.File                 // files whose writer is still at it
	files     func() map[string]*source.File // by path; made when asked for
	writers   map[string]*source.File        // drop-ins that somebody writes to, by container; "" for all
	byName    map[string][]*source.File      // drop-ins by container; "" for all
	notes     []string                       // what is no fault, and hardly meant
	named     map[string]*spec.Error         // the first error of an invalid document, by its name
}

// claim is a document that says it is a container.
type claim struct {
	file *source.File
	doc  *spec.Document
}

func (c claim) origin() Origin {
	return Origin{File: c.file.Path, Document: c.doc.Index}
}

// place is where a person finds the claim.
func (c claim) place() string {
	return fmt.Sprintf("%s:%d", c.file.Path, c.doc.Line)
}

// Declare sorts out a reading. At ten thousand manifests it is most of what a cold
// pass costs, hence one map and one piece of memory for all.
func Declare(r *source.Reading) *Declared {
	d := &Declared{
		Reading: r, singles: makeSingles(len(r.Files)), contested: map[string][]claim{}, files: filesOf(r),
		named: map[string]*spec.Error{}, elsewhere: map[string]claim{}, writers: writers(r.Fragments), byName: dropInsByName(r.Fragments),
	}
	wants := make([]Want, 0, len(r.Files))
	for _, f := range r.Files {
		if f.Err != nil {
			d.broken = append(d.broken, f)
		}
		if !f.Waiting.IsZero() {
			d.waiting = append(d.waiting, f)
		}
		for i := range f.Documents {
			c := claim{f, &f.Documents[i]}
			if !d.declares(c) {
				continue
			}
			if len(wants) == cap(wants) {
				wants = make([]Want, 0, 64) // files of several documents
			}
			wants = append(wants, d.want(c))
			d.put(c.doc.Container.Metadata.Name, &wants[len(wants)-1])
		}
	}
	d.noteDropIns()
	return d
}

func filesOf(r *source.Reading) func() map[string]*source.File {
	return sync.OnceValue(func() map[string]*source.File {
		files := make(map[string]*source.File, len(r.Files))
		for _, f := range r.Files {
			files[f.Path] = f
		}
		return files
	})
}

// next sorts out a reading that differs little from d's: what has changed is laid
// over what is the same. Where that is not simple, it is Declare.
func (d *Declared) next(r *source.Reading) *Declared {
	if d == nil || !r.Followed || r.Number != d.Reading.Number+1 {
		return Declare(r)
	}
	n := *d
	n.Reading, n.files, n.notes = r, filesOf(r), nil
	n.singles = d.share()
	for _, c := range r.Changes {
		if !simple(c.Before) || !simple(c.After) || !n.withdraw(c.Before) {
			return Declare(r)
		}
	}
	for _, c := range r.Changes {
		if !n.admit(c.After) {
			return Declare(r)
		}
	}
	n.noteDropIns()
	return &n
}

// simple tells whether a file holds nothing but valid manifests for this host.
func simple(f *source.File) bool {
	return f == nil || f.Err == nil && f.Waiting.IsZero() && !slices.ContainsFunc(f.Documents, func(doc spec.Document) bool {
		return doc.Container == nil || doc.Elsewhere || len(doc.Errors) > 0
	})
}

// withdraw takes out what a file declared; false if a name was not its alone.
func (d *Declared) withdraw(f *source.File) bool {
	if f == nil {
		return true
	}
	for i := range f.Documents {
		name := f.Documents[i].Name
		if w := d.single(name); w == nil || w.claim.file != f {
			return false
		}
		d.put(name, nil)
	}
	return true
}

// admit takes in what a file declares; false if somebody else claims a name.
func (d *Declared) admit(f *source.File) bool {
	if f == nil {
		return true
	}
	for i := range f.Documents {
		c := claim{f, &f.Documents[i]}
		if d.contested[c.doc.Name] != nil || d.single(c.doc.Name) != nil {
			return false
		}
		w := d.want(c)
		d.put(c.doc.Name, &w)
	}
	return !d.crowded()
}

// declares tells whether a document is the first that validly claims its name on
// this host; what it is otherwise is noted.
func (d *Declared) declares(c claim) bool {
	if c.doc.Container == nil {
		d.invalid = append(d.invalid, c)
		if c.doc.Name != "" && len(c.doc.Errors) > 0 && d.named[c.doc.Name] == nil {
			d.named[c.doc.Name] = c.doc.Errors[0]
		}
		return false
	}
	name := c.doc.Container.Metadata.Name
	if c.doc.Elsewhere {
		d.elsewhere[name] = c
		return false
	}
	if before := d.single(name); before != nil {
		d.contested[name] = []claim{before.claim}
		d.put(name, nil)
	}
	if d.contested[name] != nil {
		d.contested[name] = append(d.contested[name], c)
		return false
	}
	return true
}

// fileOf returns the file that counts for a recorded origin: the one of that
// path, or the one that replaces it in a later directory. Both results are nil
// and false if there is none.
func (d *Declared) fileOf(path string) *source.File {
	if f := d.files()[path]; f != nil {
		return f
	}
	return d.Reading.Replaced[path]
}

// want is what a claim asks for.
func (d *Declared) want(c claim) Want {
	w := Want{Spec: c.doc.Container, From: c.origin(), Waiting: c.file.Waiting, Writer: c.file.Writer, claim: c}
	if len(d.Reading.Fragments) == 0 {
		return w
	}
	w.From.DropIns = d.dropIns(c.doc.Name)
	if f := d.writer(c.doc.Name); w.Waiting.IsZero() && f != nil {
		w.Waiting, w.Writer = f.Waiting, f.Path
	}
	return w
}

// fault is the first thing wrong with a file, nil if nothing is: with the
// document of that name if there is one.
func fault(f *source.File, name string) error {
	if f == nil {
		return nil
	}
	if f.Err != nil {
		return f.Err
	}
	var first error
	for i := range f.Documents {
		errs := f.Documents[i].Errors
		if len(errs) > 0 && (first == nil || f.Documents[i].Name == name) {
			first = errs[0]
		}
	}
	if first != nil {
		return first
	}
	if !f.Waiting.IsZero() && len(f.Documents) == 0 {
		return waitingError(f)
	}
	return nil
}

// mayHold is why a file that does not validly declare name may mean to all the
// same: it can't be read, or a document in it is broken and has that name or no
// readable one.
func mayHold(f *source.File, name string) error {
	if f == nil {
		return nil
	}
	if f.Err != nil {
		return f.Err
	}
	for i := range f.Documents {
		doc := &f.Documents[i]
		if len(doc.Errors) > 0 && (doc.Name == name || doc.Name == "") {
			return doc.Errors[0]
		}
	}
	if !f.Waiting.IsZero() && len(f.Documents) == 0 {
		return waitingError(f)
	}
	return nil
}

// WaitingError says that a file is not read because somebody still writes it.
type WaitingError struct {
	File  string
	Since time.Time
}

func (e *WaitingError) Error() string {
	return e.File + ": somebody has it open for writing; waiting for its writer"
}

func waitingError(f *source.File) error {
	return &WaitingError{File: cmp.Or(f.Writer, f.Path), Since: f.Waiting}
}

// sortClaims puts claims in the order in which a person would read them.
func sortClaims(claims []claim) {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.file.Path, b.file.Path), cmp.Compare(a.doc.Index, b.doc.Index))
	})
}
