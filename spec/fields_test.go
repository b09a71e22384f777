package spec

import (
	"fmt"
	"reflect"
	"strings"
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
	Doc      string // the key of its comment in typeDocs
}

// Fields lists all fields in the order of a manifest, from the types and tags in
// types.go. Diff walks the same tags.
func Fields() []Field { return addFields(nil, reflect.TypeFor[Container](), "", "") }

// imageFields lists the fields of a manifest that declares an image.
func imageFields() []Field { return addFields(nil, reflect.TypeFor[Image](), "", "") }

func addFields(list []Field, t reflect.Type, path string, effect Effect) []Field {
	for _, f := range shapeOf(t).fields {
		if f.later {
			continue
		}
		row := Field{
			Path: joinPath(path, f.name), Type: describeType(f.typ), Effect: effectOf(f, effect), Default: f.defaultText,
			Enum: f.enum, Required: f.required, Doc: t.Name() + "." + f.goName,
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
			list = append(list, strings.TrimPrefix(joinPath(path, f.name), "."))
		} else {
			list = append(list, laterFields(f.typ, joinPath(path, f.name))...)
		}
	}
	return list
}

// referenceOf returns the manifest reference in Markdown, with the comments of types.go.
func referenceOf(docs map[string]string) string {
	var b strings.Builder
	table := func(fields []Field) {
		b.WriteString("| Field | Takes | Default | A change | |\n|---|---|---|---|---|\n")
		for _, f := range fields {
			fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Path, takes(f), orEmpty(f), effectWord(f), cell(docs[f.Doc]))
		}
	}
	table(Fields())
	b.WriteString("\nA `*` stands for a name of your choice. Known to the language and refused as \"not supported yet\": ")
	later := laterFields(reflect.TypeFor[Container](), "")
	for i, path := range later {
		later[i] = "`" + path + "`"
	}
	b.WriteString(strings.Join(later, ", ") + ".\n\nThe fields of a manifest of `kind: Image`:\n\n")
	table(imageFields())
	return b.String()
}

func takes(f Field) string {
	switch {
	case f.Enum != nil:
		return "`" + strings.Join(f.Enum, "`, `") + "`"
	case strings.HasPrefix(f.Type, "a map of fields"):
		return "fields"
	}
	return cell(f.Type)
}

func orEmpty(f Field) string {
	switch {
	case f.Required:
		return "required"
	case f.Default != "":
		return "`" + f.Default + "`"
	}
	return ""
}

// effectWord is empty where the fields below say it, each for itself.
func effectWord(f Field) string {
	switch f.Effect {
	case Live:
		return "live"
	case NeedsRestart:
		return "restarts"
	}
	return ""
}

func cell(s string) string { return strings.ReplaceAll(s, "|", "\\|") }
