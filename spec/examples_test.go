package spec

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"gopkg.in/yaml.v3"
)

// validator compiles the schema that `stead schema` prints.
func validator(t *testing.T) *jsonschema.Schema {
	t.Helper()
	data, err := Schema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("manifest.json", doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile("manifest.json")
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

// bySchema validates a document as an editor would: YAML read to plain values.
func bySchema(t *testing.T, schema *jsonschema.Schema, data []byte) error {
	t.Helper()
	var value any
	if err := yaml.Unmarshal(data, &value); err != nil {
		t.Fatal(err)
	}
	return schema.Validate(value)
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../examples/*.yaml")
	if err != nil || len(files) < 8 {
		t.Fatalf("found %d examples, want at least 8 (%v)", len(files), err)
	}
	schema := validator(t)
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, doc := range (Parser{Host: "host"}).Parse(filepath.Base(file), data) {
				for _, e := range doc.Errors {
					t.Error(e)
				}
				if want := filepath.Base(file); doc.Name+".yaml" != want {
					t.Errorf("name %q in %s: an example is called like its container", doc.Name, want)
				}
			}
			if err := bySchema(t, schema, data); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// The examples of deployments have several containers in a file.
func TestExampleDeployments(t *testing.T) {
	schema := validator(t)
	for name, want := range map[string]int{"social": 5, "monitoring": 4, "database": 3} {
		data, err := os.ReadFile("../examples/" + name + "/" + name + ".yaml")
		if err != nil {
			t.Fatal(err)
		}
		docs := (Parser{Host: "host"}).Parse(name+".yaml", data)
		for _, doc := range docs {
			for _, e := range doc.Errors {
				t.Error(e)
			}
		}
		if len(docs) < want {
			t.Errorf("%s: %d documents, want %d or more", name, len(docs), want)
		}
		for _, text := range bytes.Split(data, []byte("\n---\n")) {
			if err := bySchema(t, schema, text); err != nil {
				t.Errorf("%s: the schema refuses it: %v", name, err)
			}
		}
	}
}
