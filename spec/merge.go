package spec

import (
	"reflect"
	"slices"

	"gopkg.in/yaml.v3"
)

// applyDropIns merges fragments over a manifest and reports whether there are no errors.
// If there are errors, it merges no fragment and does not change root: half of what
// somebody intended may be worse than nothing.
func (d *decoder) applyDropIns(root **yaml.Node, over []*Fragment) bool {
	if len(over) == 0 {
		return true
	}
	part := &decoder{file: d.file, isPartial: true}
	part.decodeContainer(*root, &Container{})
	d.errs = append(d.errs, part.errs...)
	for _, f := range over {
		d.errs = append(d.errs, f.Errors...)
	}
	if len(d.errs) > 0 {
		return false
	}
	m := merger{fragmentOf: map[*yaml.Node]*Fragment{}, removed: map[string]*yaml.Node{}}
	for _, f := range over {
		m.fragment = f
		*root = m.merge(*root, f.root, reflect.TypeFor[Container](), "")
	}
	d.fragmentOf = m.fragmentOf
	for path, null := range m.removed {
		d.places = append(d.places, place{path, null}) // a missing field gets the position of the null that removed it
	}
	return true
}

// merger merges nodes by RFC 7396 (JSON Merge Patch), with one addition: a field drops
// the fields that it excludes. merger does not change the nodes that it merges.
type merger struct {
	fragment   *Fragment
	fragmentOf map[*yaml.Node]*Fragment // the fragment of each node that came from one
	removed    map[string]*yaml.Node    // the removed paths, with the key of the null
}

// merge returns base with patch merged over it. t is the type of both, nil if unknown.
func (m *merger) merge(base, patch *yaml.Node, t reflect.Type, path string) *yaml.Node {
	if patch.Kind != yaml.MappingNode {
		return m.copyNode(patch)
	}
	out := &yaml.Node{}
	if base != nil && base.Kind == yaml.MappingNode {
		*out = *base
		out.Content = slices.Clone(base.Content)
		m.fragmentOf[out] = m.fragmentOf[base]
	} else {
		*out = *patch
		out.Content = nil
		m.fragmentOf[out] = m.fragment
	}
	keys := make(map[string]int, len(out.Content)/2)
	for i := 0; i+1 < len(out.Content); i += 2 {
		keys[out.Content[i].Value] = i
	}
	drop := func(name string) {
		if i, there := keys[name]; there {
			out.Content[i], out.Content[i+1] = nil, nil
			delete(keys, name)
		}
	}
	s := structShape(t)
	for i := 0; i+1 < len(patch.Content); i += 2 {
		key, val := patch.Content[i], patch.Content[i+1]
		at := joinPath(path, key.Value)
		if isNull(val) {
			drop(key.Value)
			m.removed[at] = m.copyNode(key)
			continue
		}
		delete(m.removed, at)
		for _, name := range s.excludedBy(key.Value) {
			drop(name)
		}
		if j, there := keys[key.Value]; there {
			m.mergeField(out.Content[j:j+2], key, val, typeBelow(t, key.Value), at)
		} else {
			keys[key.Value] = len(out.Content)
			out.Content = append(out.Content, m.copyNode(key), m.merge(nil, val, typeBelow(t, key.Value), at))
		}
	}
	out.Content = slices.DeleteFunc(out.Content, func(n *yaml.Node) bool { return n == nil })
	return out
}

// mergeField merges a value over an existing pair of key and value.
func (m *merger) mergeField(pair []*yaml.Node, key, val *yaml.Node, t reflect.Type, at string) {
	before := pair[1]
	pair[1] = m.merge(before, val, t, at)
	s := structShape(t)
	if val.Kind != yaml.MappingNode || before.Kind != yaml.MappingNode || s != nil && s.oneof {
		pair[0] = m.copyNode(key) // errors about the whole value belong to this fragment
	}
}

// copyNode copies a node of the fragment and records that the copy belongs to it.
func (m *merger) copyNode(n *yaml.Node) *yaml.Node {
	out := &yaml.Node{}
	*out = *n
	out.Content = make([]*yaml.Node, len(n.Content))
	for i, c := range n.Content {
		out.Content[i] = m.copyNode(c)
	}
	m.fragmentOf[out] = m.fragment
	return out
}

// structShape returns the shape of a struct, or of the struct that t points to; else nil.
func structShape(t reflect.Type) *shape {
	if t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if t == nil {
		return nil
	}
	return shapeOf(t)
}

// excludedBy returns the fields that a struct can't have beside the named field: the other
// fields of a one-of, and the fields that belong to those.
func (s *shape) excludedBy(name string) []string {
	if s == nil || !s.oneof {
		return nil
	}
	if f := s.field(name); f == nil || !f.oneof {
		return nil
	}
	var others []string
	for _, f := range s.fields {
		if f.oneof && f.name != name || f.requires != "" && f.requires != name {
			others = append(others, f.name)
		}
	}
	return others
}
