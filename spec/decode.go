package spec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxErrors is where reading of one document stops: nobody reads more, and a
// hostile file must not cost more.
const maxErrors = 100

// decoder walks the nodes of one document against the Go types, gathers all
// that is wrong and keeps where each path stands. It sets the values itself:
// yaml.v3's own decoding turns 1.5 into 1, yes into true and 010 into 8.
type decoder struct {
	file string
	errs []*Error
	// warnings are no errors: the manifest is followed.
	warnings []*Error
	places   []place
	// partial is set for a part of a manifest: what is required may be absent.
	partial bool
	// nulls may stand for any field or entry: in a drop-in fragment they remove it.
	nulls bool
	// config is set for the configuration file, which is no manifest: what is known
	// of manifests and of other tools' is no help.
	config bool
	// merged are the nodes that came from drop-in fragments, nil without any.
	merged map[*yaml.Node]*Fragment
	// faulty are paths that have an error already: a check that looks at them
	// would only repeat it.
	faulty []string
	full   bool
	// written are the paths of mounts as they stand in the file, by the path
	// that expansion gave them.
	written map[string]string
}

// place is where a path stands.
type place struct {
	path string
	node *yaml.Node
}

func (d *decoder) container(n *yaml.Node, c *Container) {
	d.keep("", n)
	v := reflect.ValueOf(c).Elem()
	fillDefaults(v)
	d.fields(n, v, "")
}

func (d *decoder) keep(path string, n *yaml.Node) {
	d.places = append(d.places, place{path, n})
}

func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// value reads a node into v, whatever type that has.
func (d *decoder) value(n *yaml.Node, v reflect.Value, path string) {
	if d.full || !d.plain(n, path) {
		return
	}
	if isNull(n) {
		if d.nulls {
			return
		}
		d.at(n, path, "%s", nullMessage(v.Type()))
		return
	}
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		fillDefaults(p.Elem())
		d.value(n, p.Elem(), path)
		v.Set(p)
	case t == ulimitType && n.Kind != yaml.MappingNode:
		d.ulimit(n, v, path)
	case t.Kind() == reflect.Struct:
		d.fields(n, v, path)
	case t.Kind() == reflect.Map:
		d.entries(n, v, path)
	case t.Kind() == reflect.Slice:
		d.items(n, v, path)
	default:
		d.scalar(n, v, path)
	}
}

// ulimit reads one value for the soft and the hard limit.
func (d *decoder) ulimit(n *yaml.Node, v reflect.Value, path string) {
	var both Limit
	if l := reflect.ValueOf(&both).Elem(); n.Kind == yaml.ScalarNode && accepts(l.Type(), n) {
		d.scalar(n, l, path)
		v.Set(reflect.ValueOf(Ulimit{both, both}))
		return
	}
	d.mismatch(n, v.Type(), path)
}

// plain refuses the parts of YAML that a manifest does without: they let a small
// file mean something huge, or something else than it shows.
func (d *decoder) plain(n *yaml.Node, path string) bool {
	switch {
	case n.Kind == yaml.AliasNode:
		d.at(n, path, "an alias (*%s) is not supported; write the value out", printable(n.Value, 40))
	case n.Anchor != "":
		d.at(n, path, "an anchor (&%s) is not supported; write the value out where it is used", printable(n.Anchor, 40))
	case n.Style&yaml.TaggedStyle != 0:
		d.at(n, path, "a tag (%s) is not supported; quote a value to make it text", printable(n.Tag, 40))
	default:
		return true
	}
	return false
}

// fields reads a map into a struct.
func (d *decoder) fields(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, v.Type(), path)
		return
	}
	s := shapeOf(v.Type())
	given := make([]bool, len(s.fields))
	d.pairs(n, path, func(key, val *yaml.Node) {
		at := join(path, key.Value)
		i, known := s.byName[key.Value]
		switch {
		case !known:
			d.unknown(key, s, path)
		case s.fields[i].later:
			given[i] = true
			d.at(key, at, "not supported yet; until then: %s", laterHint(at))
		default:
			given[i] = true
			d.mark(at, key, val)
			field := v.Field(s.fields[i].index)
			d.value(val, field, at)
			if field.Kind() == reflect.String && !d.isFaulty(at) && !(d.nulls && isNull(val)) {
				d.choice(val, field.String(), at, s.fields[i].enum)
			}
		}
	})
	if d.partial {
		d.oneMember(n, s, path)
		return
	}
	for i, f := range s.fields {
		at := join(path, f.name)
		beside := f.with == "" || given[s.byName[f.with]]
		switch {
		case f.required && !given[i]:
			d.report(at, "missing; %s", wantField(at, f))
		case given[i] && !beside:
			d.report(at, "has no meaning without %s", f.with)
		case f.with != "" && f.def != "" && !given[i] && beside:
			setDefault(v.Field(f.index), f)
		}
	}
}

// choice refuses an empty text, which could not be told from an absent one, and
// what is none of the choices that the field's tag lists.
func (d *decoder) choice(n *yaml.Node, text, path string, choices []string) {
	switch {
	case text == "":
		d.at(n, path, "found an empty text; give a value or remove the line")
	case choices == nil || slices.Contains(choices, text):
	case path == "spec.network.mode" && (text == "private" || text == "container"):
		d.at(n, path, "%s is not supported yet; until then: host, where the program's ports are the host's, or none", text)
	default:
		hint := ""
		if len(choices) > 1 {
			hint = didYouMean(text, choices)
		}
		if path == "spec.restart.policy" && hint == "" {
			hint = "; did you mean " + restartPolicy(text) + "?"
		}
		d.at(n, path, "found %s, want %s%s", quote(text), oneOf(choices), hint)
	}
}

// mark keeps where a path stands: a scalar's value, else its key.
func (d *decoder) mark(path string, key, val *yaml.Node) {
	if val.Kind == yaml.ScalarNode && val.Value != "" {
		key = val
	}
	d.keep(path, key)
}

// entries reads a map of named things.
func (d *decoder) entries(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.mismatch(n, v.Type(), path)
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	d.pairs(n, path, func(key, val *yaml.Node) {
		at := join(path, key.Value)
		d.mark(at, key, val)
		item := reflect.New(v.Type().Elem()).Elem()
		fillDefaults(item)
		d.value(val, item, at)
		out.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
	v.Set(out)
}

// pairs calls do for each entry of a map whose key is text and not given twice.
func (d *decoder) pairs(n *yaml.Node, path string, do func(key, val *yaml.Node)) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.full; i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch first := seen[key.Value]; {
		case key.Kind == yaml.ScalarNode && key.Value == "<<" && key.ShortTag() == "!!merge":
			d.at(key, path, "a merge key (<<) is not supported; what several manifests have in common goes into the folder's container.d/")
		case !d.plain(key, path):
		case key.Kind != yaml.ScalarNode || !isText(key):
			d.at(key, path, "found %s as a key, want text; quote it", found(key))
		case strings.IndexByte(key.Value, 0) >= 0:
			d.at(key, path, "found a key that holds a NUL character")
		case first != 0:
			d.at(key, join(path, key.Value), "given twice; the first is on line %d", first)
		default:
			seen[key.Value] = key.Line
			do(key, val)
		}
	}
}

// items reads a list.
func (d *decoder) items(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.mismatch(n, v.Type(), path)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.keep(at, item)
		if isNull(item) {
			d.at(item, at, "%s", nullMessage(v.Type().Elem())) // a list is replaced as a whole: there is nothing to remove
			continue
		}
		d.value(item, out.Index(i), at)
	}
	v.Set(out)
}
