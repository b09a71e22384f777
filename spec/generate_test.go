package spec

import (
	"bytes"
	"encoding/json"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
)

var update = flag.Bool("update", false, "write the generated files")

// TestGenerated holds the generated files at what types.go says. `go generate
// ./spec` writes them.
func TestGenerated(t *testing.T) {
	for _, file := range []struct {
		name     string
		generate func(*testing.T) []byte
	}{
		{"reference.md", generateReference},
		{"schema.json", generateSchema},
	} {
		want := file.generate(t)
		if *update {
			if err := os.WriteFile(file.name, want, 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(file.name); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s is not what types.go says; run go generate ./spec (%v)", file.name, err)
		}
	}
}

// typeDocs returns the comments of the types by TYPE.FIELD.
func typeDocs(t *testing.T) map[string]string {
	docs := map[string]string{}
	for _, name := range []string{"types.go", "image_types.go"} {
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		addDocs(docs, file)
	}
	return docs
}

func addDocs(docs map[string]string, file *ast.File) {
	ast.Inspect(file, func(n ast.Node) bool {
		typ, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := typ.Type.(*ast.StructType); ok {
			for _, f := range s.Fields.List {
				if doc := strings.Join(strings.Fields(f.Doc.Text()), " "); doc != "" {
					docs[typ.Name.Name+"."+f.Names[0].Name] = doc
				}
			}
		}
		return false
	})
}

// generateReference prints the table of fields.
func generateReference(t *testing.T) []byte {
	return []byte(referenceOf(typeDocs(t)))
}

// generateSchema reflects the types, and adds what their tags say.
func generateSchema(t *testing.T) []byte {
	docs := typeDocs(t)
	r := jsonschema.Reflector{
		Anonymous: true, Mapper: scalarSchema,
		LookupComment: func(typ reflect.Type, field string) string { return docs[typ.Name()+"."+field] },
	}
	containers, images := r.Reflect(&Container{}), r.Reflect(&Image{})
	root := &jsonschema.Schema{
		Version: containers.Version, Title: "A manifest of stead", Definitions: containers.Definitions,
		If: &jsonschema.Schema{Required: []string{"kind"}, Properties: jsonschema.NewProperties()}, Then: &jsonschema.Schema{Ref: "#/$defs/Image"}, Else: &jsonschema.Schema{Ref: "#/$defs/Container"},
	}
	root.If.Properties.Set("kind", &jsonschema.Schema{Const: ImageKind})
	for name, s := range images.Definitions {
		root.Definitions[name] = s
	}
	for typ, s := range shapes() {
		if typ == reflect.TypeFor[Config]() || typ == reflect.TypeFor[IDs]() || typ == reflect.TypeFor[Registry]() || typ == ulimitType { // of no manifest, or described by scalarSchema
			continue
		}
		object := root.Definitions[typ.Name()]
		for _, f := range s.fields {
			if f.later {
				continue
			}
			property, ok := object.Properties.Get(f.name)
			if !ok {
				t.Fatalf("%s.%s is not in the schema", typ.Name(), f.name)
			}
			addTags(t, property, f)
		}
	}
	data, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(data, '\n')
}

func addTags(t *testing.T, property *jsonschema.Schema, f shapeField) {
	for _, choice := range f.enum {
		property.Enum = append(property.Enum, choice)
	}
	if f.typ.Kind() == reflect.String && f.enum == nil {
		one := uint64(1)
		property.MinLength = &one
	}
	if f.typ.Kind() == reflect.Slice && (f.required || f.name == "command") {
		one := uint64(1)
		property.MinItems = &one
	}
	if f.defaultText == "" {
		return
	}
	property.Default = f.defaultText
	switch indirect(f.typ).Kind() {
	case reflect.Bool:
		property.Default = f.defaultText == "true"
	case reflect.Int64:
		if n, err := strconv.ParseInt(f.defaultText, 10, 64); err == nil {
			property.Default = n
		}
	}
}

func indirect(t reflect.Type) reflect.Type {
	if t.Kind() == reflect.Pointer {
		return t.Elem()
	}
	return t
}

// scalarSchema describes the types that are written in more than one form.
func scalarSchema(t reflect.Type) *jsonschema.Schema {
	number := func(kind string) *jsonschema.Schema { return &jsonschema.Schema{Type: kind, Minimum: "0"} }
	text := func(pattern string) *jsonschema.Schema { return &jsonschema.Schema{Type: "string", Pattern: pattern} }
	either := func(s ...*jsonschema.Schema) *jsonschema.Schema { return &jsonschema.Schema{AnyOf: s} }
	limit := func() *jsonschema.Schema { return either(number("integer"), text("^unlimited$")) }
	switch indirect(t) {
	case bytesType:
		return either(number("integer"), text(`^(0|[1-9][0-9]*)(Ki|Mi|Gi|Ti)?$`))
	case cpuType:
		return either(number("number"), text(`^(0|[1-9][0-9]*)(\.[0-9]{1,3}|m)?$`))
	case durationType:
		return either(&jsonschema.Schema{Const: 0}, text(`^(0|[0-9]+d|([0-9]+d)?([0-9]+(\.[0-9]*)?(ns|us|µs|μs|ms|s|m|h))+)$`))
	case textType:
		return either(&jsonschema.Schema{Type: "string"}, &jsonschema.Schema{Type: "number"})
	case limitType:
		return limit()
	case ulimitType:
		both := jsonschema.NewProperties()
		both.Set("soft", limit())
		both.Set("hard", limit())
		return either(number("integer"), text("^unlimited$"), &jsonschema.Schema{
			Type: "object", Properties: both, Required: []string{"soft", "hard"}, AdditionalProperties: jsonschema.FalseSchema,
		})
	}
	return nil
}
