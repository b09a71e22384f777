package spec

import (
	_ "embed"
	"fmt"
	"reflect"
	"strings"
)

// schema.json is generated from the types by the tests, so that the program
// carries neither the generator nor its start-up time.
//
//go:embed schema.json
var schema []byte

// Schema is the JSON Schema (2020-12) of a manifest, for editors and CI. It
// refuses what Parse refuses for its shape; what only the values tell (a memory
// limit that is too small) is left to Parse.
func Schema() ([]byte, error) { return schema, nil }

// Reference is the manifest reference in Markdown, from Fields.
func Reference() string {
	var b strings.Builder
	b.WriteString("| Field | Takes | Default | A change | |\n|---|---|---|---|---|\n")
	for _, f := range Fields() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", f.Path, takes(f), orEmpty(f), effectWord(f), cell(f.Doc))
	}
	b.WriteString("\nA `*` stands for a name of your choice. Known to the language and refused as \"not supported yet\": ")
	later := laterFields(reflect.TypeFor[Container](), "")
	for i, path := range later {
		later[i] = "`" + path + "`"
	}
	b.WriteString(strings.Join(later, ", ") + ".\n")
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
