package spec

import (
	"reflect"
	"strings"
	"sync"
)

// shape is what the struct tags of one manifest type say. Decoding, defaults,
// Diff, Fields and the schema all walk shapes, so that a new field of a type is
// known to all of them or to none.
type shape struct {
	fields []shapeField
	byName map[string]int
	oneof  bool // some of its fields exclude each other
}

// shapeField is one field of a shape.
type shapeField struct {
	name        string
	goName      string
	index       int
	typ         reflect.Type
	effect      Effect // "" where the field above decides
	defaultText string // as written in a manifest, "" where absent stays absent
	enum        []string
	required    bool
	later       bool   // known to the language, not served yet
	oneof       bool   // one of several, of which a struct has exactly one
	requires    string // the one of these that it belongs to; "" if it belongs to all
}

var (
	bytesType    = reflect.TypeFor[Bytes]()
	cpuType      = reflect.TypeFor[CPU]()
	durationType = reflect.TypeFor[Duration]()
	textType     = reflect.TypeFor[Text]()
	laterType    = reflect.TypeFor[Later]()
	limitType    = reflect.TypeFor[Limit]()
	ulimitType   = reflect.TypeFor[Ulimit]()
)

// shapes holds the shape of every struct below Container and Config. It is built at first
// use: a run of the program that reads no manifest does not pay for it.
var shapes = sync.OnceValue(func() map[reflect.Type]*shape {
	all := map[reflect.Type]*shape{}
	addShape(all, reflect.TypeFor[Container]())
	addShape(all, reflect.TypeFor[Config]())
	return all
})

// shapeOf is nil for a type that is no struct.
func shapeOf(t reflect.Type) *shape { return shapes()[t] }

func addShape(all map[reflect.Type]*shape, t reflect.Type) {
	switch {
	case t.Kind() == reflect.Pointer || t.Kind() == reflect.Map || t.Kind() == reflect.Slice:
		addShape(all, t.Elem())
		return
	case t.Kind() != reflect.Struct || t == laterType || all[t] != nil:
		return
	}
	s := &shape{byName: make(map[string]int, t.NumField())}
	all[t] = s
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		if name == "-" {
			continue
		}
		field := shapeField{
			name: name, goName: f.Name, index: i, typ: f.Type,
			effect: Effect(f.Tag.Get("effect")), defaultText: f.Tag.Get("default"),
			// A field that is always written is one that a manifest must have.
			required: options != "omitempty",
			later:    f.Type == laterType,
			oneof:    f.Tag.Get("oneof") != "",
			requires: f.Tag.Get("with"),
		}
		if enum := f.Tag.Get("enum"); enum != "" {
			field.enum = strings.Split(enum, "|")
		}
		s.oneof = s.oneof || field.oneof
		s.byName[name] = len(s.fields)
		s.fields = append(s.fields, field)
		addShape(all, f.Type)
	}
}

// field returns the named field, nil if there is none.
func (s *shape) field(name string) *shapeField {
	if i, ok := s.byName[name]; ok {
		return &s.fields[i]
	}
	return nil
}

// typeBelow is the type of what stands under a key of t; nil where the language
// knows nothing of that name.
func typeBelow(t reflect.Type, key string) reflect.Type {
	for t != nil && t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	switch {
	case t == nil:
		return nil
	case t.Kind() == reflect.Map:
		return t.Elem()
	}
	if s := shapeOf(t); s != nil {
		if f := s.field(key); f != nil {
			return f.typ
		}
	}
	return nil
}

// supportedNames are the names that a manifest may use today.
func (s *shape) supportedNames() []string {
	var names []string
	for _, f := range s.fields {
		if !f.later {
			names = append(names, f.name)
		}
	}
	return names
}

// joinPath adds a field's name or a map's key to a path. A key that holds more than
// the letters of a field name stands in brackets: spec.mounts[/data].source.
func joinPath(path, name string) string {
	if name != "" && hasOnly(name, "_-") {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	return path + "[" + escape(name, 256) + "]"
}

// parentPath cuts the last part of a path off; "" above the first.
func parentPath(path string) string {
	if strings.HasSuffix(path, "]") {
		return path[:max(strings.LastIndexByte(path, '['), 0)]
	}
	return path[:max(strings.LastIndexByte(path, '.'), 0)]
}
