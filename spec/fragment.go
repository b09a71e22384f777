package spec

import (
	"bytes"
	"errors"
	"io"

	"gopkg.in/yaml.v3"
)

// Fragment is a drop-in: a part of a manifest that is merged over a whole manifest.
// It never changes after ParseFragment and can be merged over many manifests.
type Fragment struct {
	File string
	// Errors are the errors of the fragment itself. Errors in a merged manifest only show
	// after the merge.
	Errors []*Error

	root *yaml.Node
}

// BrokenFragment returns a fragment for a file that can't be read.
func BrokenFragment(e *Error) *Fragment { return &Fragment{File: e.File, Errors: []*Error{e}} }

// ParseFragment reads a drop-in file: one document with fields of spec and metadata, in
// which null removes a field. It checks the shape as for a manifest.
func ParseFragment(file string, data []byte) *Fragment {
	f := &Fragment{File: file}
	d := &decoder{file: file, isPartial: true, allowNull: true}
	if root := d.decodeOneDocument(data); root != nil && d.checkPlain(root, "") {
		d.checkFragment(root)
		f.root = root
	}
	sortErrors(d.errs, file, nil)
	f.Errors = d.errs
	return f
}

// decodeOneDocument returns the only document of a file. If the file does not hold exactly
// one, it reports an error and returns nil.
func (d *decoder) decodeOneDocument(data []byte) *yaml.Node {
	fail := func(e *Error) *yaml.Node {
		e.File = d.file
		d.errs = append(d.errs, e)
		return nil
	}
	if e := checkText(data); e != nil {
		return fail(e)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var only *yaml.Node
	for {
		var root yaml.Node
		err := decoder.Decode(&root)
		switch {
		case errors.Is(err, io.EOF) && only == nil:
			return fail(&Error{Line: 1, Message: "is empty or has only comments; delete it if it is not needed"})
		case errors.Is(err, io.EOF):
			if e := expandAliases(only); e != nil {
				return fail(e)
			}
			return only
		case err != nil:
			return fail(syntaxError(data, err))
		case isEmpty(&root):
		case only != nil:
			return fail(&Error{Line: root.Content[0].Line, Message: "a second document; this file has exactly one"})
		default:
			only = root.Content[0]
		}
	}
}

// isEmpty reports whether a document is empty, as templates leave them between "---".
func isEmpty(root *yaml.Node) bool {
	return len(root.Content) == 0 || isNull(root.Content[0]) && root.Content[0].Value == ""
}

// checkFragment reports errors in the shape of a fragment.
func (d *decoder) checkFragment(root *yaml.Node) {
	const ours = "a drop-in holds parts of metadata and spec"
	if root.Kind != yaml.MappingNode {
		d.errorAt(root, "", "found %s, want a map: %s", describeNode(root), ours)
		return
	}
	refuse := func(n *yaml.Node, path, why string) {
		if n != nil {
			d.errorAt(n, path, "%s", why)
		}
	}
	refuse(lookup(root, "apiVersion"), "apiVersion", "has no place here: "+ours+"; a whole manifest stands in a file of its own")
	refuse(lookup(root, "kind"), "kind", "has no place here: "+ours+"; a whole manifest stands in a file of its own")
	refuse(lookup(lookup(root, "metadata"), "name"), "metadata.name", "has no place here: the folder's name says which container is meant")
	d.decodeContainer(root, &Container{})
}

// checkOneOf reports two fields in a part of a manifest that exclude each other, since
// a merge could not choose one of them.
func (d *decoder) checkOneOf(n *yaml.Node, s *shape, path string) {
	if !s.oneof {
		return
	}
	first := ""
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		f := s.field(key.Value)
		if f == nil || !f.oneof || isNull(n.Content[i+1]) || first == key.Value {
			continue
		}
		if first != "" {
			d.errorAt(key, path, "found %s and %s, want exactly one of them", first, key.Value)
			return
		}
		first = key.Value
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		if f := s.field(key.Value); first != "" && f != nil && f.requires != "" && f.requires != first && !isNull(n.Content[i+1]) {
			d.errorAt(key, joinPath(path, key.Value), "has no meaning without %s", f.requires)
		}
	}
}
