package spec

import (
	"reflect"
	"slices"
	"strings"
	"sync"
)

// Effect says what a change of a field takes.
type Effect string

// The effects. A field without one is part of the container's identity.
const (
	Live         Effect = "live"    // done in place
	NeedsRestart Effect = "restart" // the processes are stopped and started again, the root is kept
)

// Field is one row of the table of all fields that a manifest may hold. A * in
// the path stands for a name that the manifest's author chooses.
type Field struct {
	Path     string
	Type     string // in words: "text", "a size such as 256Mi", …
	Effect   Effect
	Default  string   // as written in a manifest; "" where there is none
	Enum     []string // the choices, if they are few
	Required bool
	Doc      string
}

// Fields lists all fields in the order of a manifest, from the types and tags in
// types.go. Diff walks the same tags; the reference and the tests use the table.
func Fields() []Field { return slices.Clone(fieldTable()) }

var fieldTable = sync.OnceValue(func() []Field {
	return addFields(nil, reflect.TypeFor[Container](), "", "")
})

func addFields(list []Field, t reflect.Type, path string, effect Effect) []Field {
	for _, f := range shapeOf(t).fields {
		if f.later {
			continue
		}
		row := Field{
			Path: join(path, f.name), Type: wants(f.typ), Effect: effectOf(f, effect), Default: f.def,
			Enum: f.enum, Required: f.required, Doc: fieldDoc(t.Name() + "." + f.goName),
		}
		if row.Path == "metadata.name" || row.Path == "metadata" {
			row.Effect = "" // the identity: another name is another container
		}
		list = append(list, row)
		list = addBelow(list, f.typ, row.Path, effectOf(f, effect))
	}
	return list
}

// addBelow lists the fields of a struct, or of the structs in a map.
func addBelow(list []Field, t reflect.Type, path string, effect Effect) []Field {
	switch {
	case t == ulimitType: // one value, in words of its own
	case t.Kind() == reflect.Pointer:
		return addBelow(list, t.Elem(), path, effect)
	case t.Kind() == reflect.Map:
		return addBelow(list, t.Elem(), path+".*", effect)
	case t.Kind() == reflect.Struct:
		return addFields(list, t, path, effect)
	}
	return list
}

// effectOf is the field's own effect, else the one of the field above.
func effectOf(f shapeField, above Effect) Effect {
	if f.effect != "" {
		return f.effect
	}
	return above
}

// laterFields lists the fields that the language knows and refuses for now.
func laterFields(t reflect.Type, path string) []string {
	var list []string
	switch t.Kind() {
	case reflect.Pointer:
		return laterFields(t.Elem(), path)
	case reflect.Map:
		return laterFields(t.Elem(), path+".*")
	}
	s := shapeOf(t)
	if s == nil {
		return nil
	}
	for _, f := range s.fields {
		if f.later {
			list = append(list, strings.TrimPrefix(join(path, f.name), "."))
		} else {
			list = append(list, laterFields(f.typ, join(path, f.name))...)
		}
	}
	return list
}
