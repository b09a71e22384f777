package desired

import (
	"cmp"
	"errors"
	"fmt"
	"slices"

	"stead/reconcile/plan"
	"stead/runtime/status"
	"stead/spec"
)

// problems lists what keeps manifests from being followed.
func (c *combiner) problems(observed []*status.Status) {
	for _, f := range c.foreign { // no: a container came from it, under an earlier daemon
		for i := range f.Documents {
			if slices.ContainsFunc(observed, func(st *status.Status) bool { return st.From.File == f.Path }) {
				c.formerly = append(c.formerly, claim{f, &f.Documents[i]})
			}
		}
	}
	c.out.Notes = c.notesBeside(c.formerly)
	c.invalidManifests(observed)
	c.out.Broken = c.fileErrors()
	for _, f := range c.waiting {
		c.out.Writing = append(c.out.Writing, plan.WritingFile{
			Path: f.Path, Writer: f.Writer, Since: f.Waiting, New: len(f.Documents) == 0 && !c.keeps(f.Path),
		})
	}
	for _, f := range c.writers {
		c.out.Writing = append(c.out.Writing, plan.WritingFile{Path: f.Path, Writer: f.Writer, Since: f.Waiting, DropIn: true, Of: f.Of})
	}
}

// noteWarnings adds notes on valid manifests that are probably mistakes.
func (d *Declared) noteWarnings() {
	for _, f := range d.Reading.Files {
		for i := range f.Documents {
			for _, warning := range f.Documents[i].Warnings {
				d.notes = append(d.notes, warning.Error())
			}
		}
	}
}

// Notes returns notes on manifests that are valid and probably mistakes.
func (d *Declared) Notes() []string { return d.notesBeside(nil) }

// notesBeside leaves out the files of claims that are errors.
func (d *Declared) notesBeside(errors []claim) []string {
	notes := slices.Clone(d.notes)
	for _, path := range d.Reading.Unread {
		notes = append(notes, path+": not read: the name of a manifest or drop-in ends in .yaml, .yml or .json, in small letters")
	}
	for _, f := range d.foreign {
		if slices.ContainsFunc(errors, func(c claim) bool { return c.file == f }) {
			continue
		}
		why := ""
		if errs := f.Documents[0].Errors; len(errs) == 1 {
			why = " (" + errs[0].Message + ")"
		}
		notes = append(notes, fmt.Sprintf("%s: not followed: no document in it has apiVersion: stead/v1%s; a folder named *.files may hold what is no manifest", f.Path, why))
	}
	return notes
}

// invalidManifests lists what gave no container. An error of a container that is there stands
// with that container.
func (c *combiner) invalidManifests(observed []*status.Status) {
	if len(c.invalid)+len(c.formerly)+len(c.broken)+len(c.lost)+len(c.refused) == 0 && len(c.images) == len(c.imageClaims) {
		return
	}
	exists := make(map[string]bool, len(observed))
	origins := make(map[string]bool, len(observed))
	for _, st := range observed {
		exists[st.Name] = true
		origins[st.From.File] = true
	}
	add := func(name string, from status.Origin, errs ...error) {
		c.out.Invalid = append(c.out.Invalid, plan.Invalid{Name: name, From: from, Errs: errs})
	}
	for _, f := range c.broken {
		if !origins[f.Path] {
			add(f.Path, status.Origin{File: f.Path}, f.Err)
		}
	}
	for _, i := range slices.Concat(c.invalid, c.formerly) {
		name := i.doc.Name
		if name != "" && !i.doc.IsImage && c.keepsManifest(name) || name == "" && origins[i.file.Path] && c.keeps(i.file.Path) {
			continue
		}
		if name == "" || i.doc.IsImage || exists[name] || c.wants[name] != nil {
			name = i.file.Path
		}
		add(name, i.origin(), errorsOf(i.doc)...)
	}
	for i, err := range c.lost {
		name := i.doc.Name
		if exists[name] {
			name = i.file.Path
		}
		add(name, i.origin(), err)
	}
	for name, claims := range c.imageClaims {
		for i, one := range claims {
			if len(claims) > 1 {
				add(one.file.Path, one.origin(), contestError(one, name, claims[(i+1)%len(claims)], "is declared by %s too: one image, one manifest; rename or delete one"))
			}
		}
	}
	for _, e := range c.refused {
		add(e.File, status.Origin{File: e.File}, e)
	}
	slices.SortFunc(c.out.Invalid, func(a, b plan.Invalid) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.From.File, b.From.File), cmp.Compare(a.From.Document, b.From.Document))
	})
}

// keepsManifest reports whether a container of the manifest of that name is kept.
func (c *combiner) keepsManifest(name string) bool {
	if c.out.Kept[name] != nil {
		return true
	}
	for _, w := range c.out.Kept {
		if w.Spec.Group() == name {
			return true
		}
	}
	return false
}

// keeps reports whether a container is kept because of this file.
func (c *combiner) keeps(file string) bool {
	for _, w := range c.out.Kept {
		if w.Err != nil && w.From.File == file {
			return true
		}
	}
	return false
}

func errorsOf(doc *spec.Document) []error {
	errs := make([]error, len(doc.Errors))
	for i, e := range doc.Errors {
		errs[i] = e
	}
	return errs
}

// fileErrors lists every error of the manifests by file, in order.
func (c *combiner) fileErrors() []plan.FileErrors {
	by := map[string][]error{}
	add := func(e error) {
		file := ""
		if at := new(*spec.Error); errors.As(e, at) {
			file = (*at).File // of a drop-in, say, that breaks many manifests
		}
		text := e.Error()
		if !slices.ContainsFunc(by[file], func(known error) bool { return known.Error() == text }) {
			by[file] = append(by[file], e)
		}
	}
	for _, f := range c.broken {
		add(f.Err)
	}
	for _, i := range slices.Concat(c.invalid, c.formerly) {
		for _, e := range i.doc.Errors {
			add(e)
		}
	}
	for _, f := range c.Reading.Fragments {
		if f.Fragment != nil {
			for _, e := range f.Fragment.Errors {
				add(e)
			}
		}
	}
	for _, i := range c.out.Invalid {
		for _, e := range i.Errs {
			add(e)
		}
	}
	files := make([]plan.FileErrors, 0, len(by))
	for file, errs := range by {
		files = append(files, plan.FileErrors{File: file, Errs: errs})
	}
	slices.SortFunc(files, func(a, b plan.FileErrors) int { return cmp.Compare(a.File, b.File) })
	return files
}
