package spec

import (
	"reflect"
	"strings"
	"sync"
)

// shape holds the struct tags of one manifest type. Decoding, defaults, Diff, the
// reference and the schema all walk shapes, so that each of them knows every field.
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
	fileType     = reflect.TypeFor[File]()
	mountType    = reflect.TypeFor[Mount]()
)

// shapes returns the shape of every struct below Container and Config. They are built at
// first use, so that a run of the program that reads no manifest does not pay for them.
var shapes = sync.OnceValue(func() map[reflect.Type]*shape {
	all := map[reflect.Type]*shape{}
	addShape(all, reflect.TypeFor[Container]())
	addShape(all, reflect.TypeFor[Image]())
	addShape(all, reflect.TypeFor[Config]())
	return all
})

// shapeOf returns the shape of a struct, nil for any other type.
func shapeOf(t reflect.Type) *shape { return shapes()[t] }

// addShape adds the shapes of t and of all structs below it.
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
			// A field that is always written is required.
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

// field returns the field of that name, nil if there is none.
func (s *shape) field(name string) *shapeField {
	if i, ok := s.byName[name]; ok {
		return &s.fields[i]
	}
	return nil
}

// typeBelow returns the type of the value under a key of t, nil if t has no such key.
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

// supportedNames returns the names of the fields that this version supports.
func (s *shape) supportedNames() []string {
	var names []string
	for _, f := range s.fields {
		if !f.later {
			names = append(names, f.name)
		}
	}
	return names
}

// joinPath appends the name of a field or a key of a map to a path. A key with other
// characters than those of field names is put in brackets: spec.mounts[/data].source.
func joinPath(path, name string) string {
	if name != "" && hasOnly(name, "_-") {
		if path == "" {
			return name
		}
		return path + "." + name
	}
	return path + "[" + escape(name, 256) + "]"
}

// parentPath returns the path without its last part, "" if it has only one.
func parentPath(path string) string {
	if strings.HasSuffix(path, "]") {
		return path[:max(strings.LastIndexByte(path, '['), 0)]
	}
	return path[:max(strings.LastIndexByte(path, '.'), 0)]
}
