package desired

import (
	"cmp"
	"errors"
	"slices"

	"stead/reconcile/plan"
	"stead/runtime/status"
	"stead/spec"
)

// problems lists what keeps manifests from being followed.
func (c *combiner) problems(observed []*status.Status) {
	c.out.Notes = c.Notes
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

// invalidManifests lists what gave no container. An error of a container that is there stands
// with that container.
func (c *combiner) invalidManifests(observed []*status.Status) {
	if len(c.invalid)+len(c.broken)+len(c.lost) == 0 {
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
	for _, i := range c.invalid {
		name := i.doc.Name
		if w := c.out.Kept[name]; name != "" && w != nil || name == "" && origins[i.file.Path] && c.keeps(i.file.Path) {
			continue
		}
		if name == "" || exists[name] || c.wants[name] != nil {
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
	slices.SortFunc(c.out.Invalid, func(a, b plan.Invalid) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.From.File, b.From.File), cmp.Compare(a.From.Document, b.From.Document))
	})
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
	for _, i := range c.invalid {
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
