// Package desired makes out of what the manifest directories hold what should be on this
// host: one entry for each container, merged with its drop-ins, and held against what runs,
// so that bad input never changes or removes anything.
//
// It knows documents and what was applied; it reads no file, asks no kernel, and decides
// nothing about what is to be done: package plan does.
package desired

import (
	"cmp"
	"fmt"
	"slices"

	"stead/reconcile/plan"
	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// Declared is a sorted-out reading, before it is combined with what is applied. It is made once
// for a reading and never changed.
type Declared struct {
	Reading *source.Reading

	notes []string // on what is valid and probably a mistake

	wants     map[string]*plan.Want     // names that one valid document claims
	claims    map[string]claim          // that document, also of the names of manifests with replicas
	groups    map[string]plan.Group     // manifests with replicas, by name
	contested map[string][]claim        // names that several claim
	elsewhere map[string]status.Origin  // names that only manifests for other hosts claim, or these too
	invalid   []claim                   // documents with errors
	broken    []*source.File            // files that can't be read as a whole
	waiting   []*source.File            // files that somebody is still writing
	files     map[string]*source.File   // by path
	writers   map[string]*source.File   // drop-ins that somebody is still writing, by target
	dropIns   map[string][]*source.File // drop-ins by target
	foreign   []*source.File            // files that never held a manifest
	named     map[string]*spec.Error    // the first error of an invalid document, by its name
	refused   []*spec.Error             // drop-ins for single replicas

	images      map[string]*plan.WantImage // that one valid document declares
	imageClaims map[string][]claim         // by name
}

// claim is a document that declares a container.
type claim struct {
	file *source.File
	doc  *spec.Document
}

// instance returns the container of that name.
func (c claim) instance(name string) spec.Instance {
	for _, one := range c.doc.Replicas {
		if one.Metadata.Name == name {
			return one
		}
	}
	return spec.Instance{Container: c.doc.Container, Fingerprint: c.doc.Fingerprint}
}

func (c claim) origin() status.Origin {
	return status.Origin{File: c.file.Path, Document: c.doc.Index}
}

// position returns file:line of the claim.
func (c claim) position() string {
	return fmt.Sprintf("%s:%d", c.file.Path, c.doc.Line)
}

// Declare sorts the documents of a reading by the names that they declare.
func Declare(r *source.Reading) *Declared {
	d := &Declared{
		Reading: r,
		wants:   make(map[string]*plan.Want, len(r.Files)), claims: make(map[string]claim, len(r.Files)), contested: map[string][]claim{},
		groups: map[string]plan.Group{}, elsewhere: map[string]status.Origin{}, files: make(map[string]*source.File, len(r.Files)),
		writers: writers(r.Fragments), dropIns: dropInsByTarget(r.Fragments), named: map[string]*spec.Error{},
		images: map[string]*plan.WantImage{}, imageClaims: map[string][]claim{},
	}
	for _, f := range r.Files {
		d.files[f.Path] = f
		if f.Err != nil {
			d.broken = append(d.broken, f)
		}
		if f.Foreign {
			d.foreign = append(d.foreign, f)
			for i := range f.Documents { // it may be a manifest that was renamed and broken at once
				d.name(&f.Documents[i])
			}
			continue
		}
		if !f.Waiting.IsZero() {
			d.waiting = append(d.waiting, f)
		}
		for i := range f.Documents {
			d.declare(claim{f, &f.Documents[i]})
		}
	}
	d.refused = d.replicaDropIns()
	d.noteDropIns()
	d.noteWarnings()
	return d
}

// name notes the first error of an invalid document under the document's name: a container of
// that name may be meant by it.
func (d *Declared) name(doc *spec.Document) {
	if doc.Name != "" && !doc.IsImage && len(doc.Errors) > 0 && d.named[doc.Name] == nil {
		d.named[doc.Name] = doc.Errors[0]
	}
}

// declare adds one document.
func (d *Declared) declare(c claim) {
	if c.doc.Image != nil {
		d.declareImage(c)
		return
	}
	if c.doc.Container == nil {
		d.invalid = append(d.invalid, c)
		d.name(c.doc)
		return
	}
	if c.doc.Replicas == nil {
		d.declareName(c.doc.Name, c, spec.Instance{Container: c.doc.Container, Fingerprint: c.doc.Fingerprint})
		return
	}
	d.declareName(c.doc.Name, c, spec.Instance{})
	for _, one := range c.doc.Replicas {
		d.declareName(one.Metadata.Name, c, one)
	}
}

// declareImage adds an image. One that two documents declare is none.
func (d *Declared) declareImage(c claim) {
	name := c.doc.Name
	if c.doc.Elsewhere {
		return
	}
	d.imageClaims[name] = append(d.imageClaims[name], c)
	d.images[name] = &plan.WantImage{Spec: c.doc.Image, From: c.origin(), At: c.doc.Root}
	if len(d.imageClaims[name]) > 1 {
		delete(d.images, name)
	}
}

// declareName adds one name that a document claims, and its container. The name of a manifest
// with replicas has none.
func (d *Declared) declareName(name string, c claim, one spec.Instance) {
	if c.doc.Elsewhere {
		d.elsewhere[name] = c.origin()
		return
	}
	if before, claimed := d.claims[name]; claimed {
		d.contested[name] = []claim{before}
		delete(d.claims, name)
		delete(d.wants, name)
		delete(d.groups, name)
	}
	if d.contested[name] != nil {
		d.contested[name] = append(d.contested[name], c)
		return
	}
	if d.claims[name] = c; one.Container == nil {
		d.groups[name] = plan.Group{From: c.origin(), Replicas: len(c.doc.Replicas)}
		return
	}
	d.wants[name] = d.want(c, one)
}

// Claims returns the file that declares a container, nil if no single one does.
func (d *Declared) Claims(name string) *source.File { return d.claims[name].file }

// fileOf returns the file that counts for a recorded origin: the one of that path, or the one
// that replaces it in a later directory; nil if there is none.
func (d *Declared) fileOf(path string) *source.File {
	if f := d.files[path]; f != nil {
		return f
	}
	return d.Reading.Replaced[path]
}

// want returns a container that a claim declares.
func (d *Declared) want(c claim, one spec.Instance) *plan.Want {
	w := &plan.Want{Spec: one.Container, Fingerprint: one.Fingerprint, RootAt: c.doc.Root, From: c.origin(), Waiting: c.file.Waiting, Writer: c.file.Writer}
	for i, src := range c.doc.Sources {
		if src.Container == one.Metadata.Name {
			w.Sources = append(w.Sources, c.doc.Sources[i])
		}
	}
	if len(d.Reading.Fragments) == 0 {
		return w
	}
	w.From.DropIns = d.dropInsOf(c.doc.Name, c.file.Rel)
	if f := d.writer(c.doc.Name, c.file.Rel); w.Waiting.IsZero() && f != nil {
		w.Waiting, w.Writer = f.Waiting, f.Path
	}
	return w
}

// fault returns the first thing wrong with a file, nil if nothing is: with the document of
// that name if there is one.
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

// mayDeclare returns why a file without a valid document of a name may still be meant to
// declare it: the file can't be read, or an invalid document in it has that name or none.
func mayDeclare(f *source.File, name string) error {
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

func waitingError(f *source.File) error {
	return &plan.WaitingError{File: cmp.Or(f.Writer, f.Path), Since: f.Waiting}
}

// sortClaims sorts claims by file and position.
func sortClaims(claims []claim) {
	slices.SortFunc(claims, func(a, b claim) int {
		return cmp.Or(cmp.Compare(a.file.Path, b.file.Path), cmp.Compare(a.doc.Index, b.doc.Index))
	})
}
