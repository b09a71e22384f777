package reconcile

import (
	"cmp"
	"errors"
	"slices"

	"stead/reconcile/source"
	"stead/runtime/status"
	"stead/spec"
)

// listInvalid lists what gave no container. An error of a container that is
// there stands with that container.
func (d *Desired) listInvalid(observed []*status.Status, lost map[claim]error) {
	if len(d.invalid)+len(d.broken)+len(lost) == 0 {
		return
	}
	exists := make(map[string]bool, len(observed))
	origins := make(map[string]bool, len(observed))
	for i := range observed {
		exists[observed[i].Name] = true
		origins[observed[i].From.File] = true
	}
	for _, f := range d.broken {
		if !origins[f.Path] {
			d.Invalid = append(d.Invalid, InvalidManifest{Name: f.Path, From: Origin{File: f.Path}, Errs: []error{f.Err}})
		}
	}
	for _, c := range d.invalid {
		name := c.doc.Name
		if w := d.kept[name]; name != "" && w != nil || name == "" && origins[c.file.Path] && d.keeps(c.file) {
			continue
		}
		if name == "" || exists[name] || d.single(name) != nil {
			name = c.file.Path
		}
		d.addInvalid(name, c, errorsOf(c.doc))
	}
	for c, err := range lost {
		name := c.doc.Name
		if exists[name] {
			name = c.file.Path
		}
		d.addInvalid(name, c, []error{err})
	}
	slices.SortFunc(d.Invalid, func(a, b InvalidManifest) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.From.File, b.From.File), cmp.Compare(a.From.Document, b.From.Document))
	})
}

func (d *Desired) addInvalid(name string, c claim, errs []error) {
	d.Invalid = append(d.Invalid, InvalidManifest{Name: name, From: c.origin(), Errs: errs})
}

// keeps tells whether a container is kept because of this file.
func (d *Desired) keeps(f *source.File) bool {
	for _, w := range d.kept {
		if w.Err != nil && w.From.File == f.Path {
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

// Broken lists every error of the manifests by file, in order.
func (d *Desired) Broken() []FileErrors {
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
	for _, f := range d.broken {
		add(f.Err)
	}
	for _, c := range d.invalid {
		for _, e := range c.doc.Errors {
			add(e)
		}
	}
	for _, f := range d.Reading.Fragments {
		if f.Fragment != nil {
			for _, e := range f.Fragment.Errors {
				add(e)
			}
		}
	}
	for _, i := range d.Invalid {
		for _, e := range i.Errs {
			add(e)
		}
	}
	out := make([]FileErrors, 0, len(by))
	for file, errs := range by {
		out = append(out, FileErrors{File: file, Errs: errs})
	}
	slices.SortFunc(out, func(a, b FileErrors) int { return cmp.Compare(a.File, b.File) })
	return out
}

// FileErrors is what is wrong with one file.
type FileErrors struct {
	File string
	Errs []error
}
