package spec

import (
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"
)

// maxErrors is the number of errors after which decoding of a document stops. Nobody
// reads more, and a hostile file must not cost more.
const maxErrors = 100

// decoder decodes the nodes of one document into the Go types, collects all errors and
// records the node of each path. It sets the values itself, because yaml.v3 turns 1.5
// into 1, yes into true and 010 into 8.
type decoder struct {
	file string
	errs []*Error
	// warnings do not make a manifest invalid.
	warnings []*Error
	places   []place
	// isPartial is set for a part of a manifest, in which required fields may be absent.
	isPartial bool
	// allowNull is set for a drop-in fragment, in which null removes a field or entry.
	allowNull bool
	// isConfig is set for the configuration file. The hints for manifests do not help there.
	isConfig bool
	// fragmentOf holds the fragment of each node that came from one; nil without drop-ins.
	fragmentOf map[*yaml.Node]*Fragment
	// errorPaths are the paths that have an error already. Other checks skip them, since
	// they would only repeat the error.
	errorPaths    []string
	tooManyErrors bool
	// pathBeforeExpansion holds the path of a mount as written in the file, by its path
	// after expansion.
	pathBeforeExpansion map[string]string
}

// place is the node of a path.
type place struct {
	path string
	node *yaml.Node
}

// decodeContainer reads a manifest into c, over the defaults.
func (d *decoder) decodeContainer(n *yaml.Node, c *Container) {
	d.recordNode("", n)
	v := reflect.ValueOf(c).Elem()
	fillDefaults(v)
	d.decodeStruct(n, v, "")
}

// recordNode records the node of a path.
func (d *decoder) recordNode(path string, n *yaml.Node) {
	d.places = append(d.places, place{path, n})
}

// isNull reports whether a node is null.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// decodeValue reads a node into v, which may have any type of the language.
func (d *decoder) decodeValue(n *yaml.Node, v reflect.Value, path string) {
	if d.tooManyErrors || !d.checkPlain(n, path) {
		return
	}
	if isNull(n) {
		if d.allowNull {
			return
		}
		d.errorAt(n, path, "%s", nullMessage(v.Type()))
		return
	}
	t := v.Type()
	switch {
	case t.Kind() == reflect.Pointer:
		p := reflect.New(t.Elem())
		fillDefaults(p.Elem())
		d.decodeValue(n, p.Elem(), path)
		v.Set(p)
	case t == ulimitType && n.Kind != yaml.MappingNode:
		d.decodeUlimit(n, v, path)
	case t.Kind() == reflect.Struct:
		d.decodeStruct(n, v, path)
	case t.Kind() == reflect.Map:
		d.decodeMap(n, v, path)
	case t.Kind() == reflect.Slice:
		d.decodeList(n, v, path)
	default:
		d.decodeScalar(n, v, path)
	}
}

// decodeUlimit reads one value that is both the soft and the hard limit.
func (d *decoder) decodeUlimit(n *yaml.Node, v reflect.Value, path string) {
	var both Limit
	if l := reflect.ValueOf(&both).Elem(); n.Kind == yaml.ScalarNode && acceptsScalar(l.Type(), n) {
		d.decodeScalar(n, l, path)
		v.Set(reflect.ValueOf(Ulimit{both, both}))
		return
	}
	d.reportMismatch(n, v.Type(), path)
}

// checkPlain refuses tags and reports whether a node has none. With them a value could mean
// something else than it seems to say.
func (d *decoder) checkPlain(n *yaml.Node, path string) bool {
	if n.Style&yaml.TaggedStyle == 0 {
		return true
	}
	d.errorAt(n, path, "a tag (%s) is not supported; quote a value to make it text", escape(n.Tag, 40))
	return false
}

// decodeStruct reads a map into a struct.
func (d *decoder) decodeStruct(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.reportMismatch(n, v.Type(), path)
		return
	}
	s := shapeOf(v.Type())
	given := make([]bool, len(s.fields))
	d.eachPair(n, path, func(key, val *yaml.Node) {
		at := joinPath(path, key.Value)
		i, known := s.byName[key.Value]
		switch {
		case !known:
			d.reportUnknown(key, s, path)
		case s.fields[i].later:
			given[i] = true
			d.errorAt(key, at, "not supported yet; until then: %s", laterHint(at))
		default:
			given[i] = true
			d.recordField(at, key, val)
			field := v.Field(s.fields[i].index)
			d.decodeValue(val, field, at)
			if field.Kind() == reflect.String && !d.hasError(at) && !(d.allowNull && isNull(val)) {
				d.checkChoice(val, field.String(), at, s.fields[i].enum)
			}
		}
	})
	if d.isPartial {
		d.checkOneOf(n, s, path)
		return
	}
	for i, f := range s.fields {
		at := joinPath(path, f.name)
		beside := f.requires == "" || given[s.byName[f.requires]]
		switch {
		case f.required && !given[i]:
			d.errorFor(at, "missing; %s", describeField(at, f))
		case given[i] && !beside:
			d.errorFor(at, "has no meaning without %s", f.requires)
		case f.requires != "" && f.defaultText != "" && !given[i] && beside:
			setDefault(v.Field(f.index), f)
		}
	}
}

// checkChoice refuses an empty text, which would look like an absent one, and a text that
// is none of the choices in the field's tag.
func (d *decoder) checkChoice(n *yaml.Node, text, path string, choices []string) {
	switch {
	case text == "":
		d.errorAt(n, path, "found an empty text; give a value or remove the line")
	case choices == nil || slices.Contains(choices, text):
	case path == "kind" && !d.isConfig:
		d.errorAt(n, path, "found %s, want Container or Image%s", quote(text), didYouMean(text, []string{Kind, ImageKind}))
	case path == "spec.network.mode" && (text == "private" || text == "container"):
		d.errorAt(n, path, "%s is not supported yet; until then: host, where the program's ports are the host's, or none", text)
	default:
		hint := ""
		if len(choices) > 1 {
			hint = didYouMean(text, choices)
		}
		if path == "spec.restart.policy" && hint == "" {
			hint = "; did you mean " + translateRestartPolicy(text) + "?"
		}
		d.errorAt(n, path, "found %s, want %s%s", quote(text), oneOf(choices), hint)
	}
}

// recordField records the node of a path: the value of a scalar, otherwise the key.
func (d *decoder) recordField(path string, key, val *yaml.Node) {
	if val.Kind == yaml.ScalarNode && val.Value != "" {
		key = val
	}
	d.recordNode(path, key)
}

// decodeMap reads a map of entries by name.
func (d *decoder) decodeMap(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.MappingNode {
		d.reportMismatch(n, v.Type(), path)
		return
	}
	out := reflect.MakeMapWithSize(v.Type(), len(n.Content)/2)
	d.eachPair(n, path, func(key, val *yaml.Node) {
		at := joinPath(path, key.Value)
		d.recordField(at, key, val)
		item := reflect.New(v.Type().Elem()).Elem()
		fillDefaults(item)
		d.decodeValue(val, item, at)
		out.SetMapIndex(reflect.ValueOf(key.Value), item)
	})
	v.Set(out)
}

// eachPair calls do for each entry of a map whose key is text and occurs only once.
func (d *decoder) eachPair(n *yaml.Node, path string, do func(key, val *yaml.Node)) {
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content) && !d.tooManyErrors; i += 2 {
		key, val := n.Content[i], n.Content[i+1]
		switch first := seen[key.Value]; {
		case key.Kind == yaml.ScalarNode && key.Value == "<<" && key.ShortTag() == "!!merge":
			d.errorAt(key, path, "a merge key (<<) is not supported; what several manifests have in common goes into the folder's container.d/")
		case !d.checkPlain(key, path):
		case key.Kind != yaml.ScalarNode || !isText(key):
			d.errorAt(key, path, "found %s as a key, want text; quote it", describeNode(key))
		case strings.IndexByte(key.Value, 0) >= 0:
			d.errorAt(key, path, "found a key that holds a NUL character")
		case first != 0:
			d.errorAt(key, joinPath(path, key.Value), "given twice; the first is on line %d", first)
		default:
			seen[key.Value] = key.Line
			do(key, val)
		}
	}
}

// decodeList reads a list.
func (d *decoder) decodeList(n *yaml.Node, v reflect.Value, path string) {
	if n.Kind != yaml.SequenceNode {
		d.reportMismatch(n, v.Type(), path)
		return
	}
	out := reflect.MakeSlice(v.Type(), len(n.Content), len(n.Content))
	for i, item := range n.Content {
		at := path + "[" + strconv.Itoa(i) + "]"
		d.recordNode(at, item)
		if isNull(item) {
			d.errorAt(item, at, "%s", nullMessage(v.Type().Elem())) // a list is replaced as a whole, so null removes nothing
			continue
		}
		d.decodeValue(item, out.Index(i), at)
	}
	v.Set(out)
}
