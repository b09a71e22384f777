package spec

import _ "embed"

// The tests generate both files from the types, so that the program carries
// neither the generator nor its start-up time.
var (
	//go:embed schema.json
	schema []byte
	//go:embed reference.md
	reference string
)

// Schema returns the JSON Schema (2020-12) of a manifest, for editors and CI. The
// schema refuses the shapes that Parse refuses. Only Parse checks values, such as a
// memory limit that is too small.
func Schema() ([]byte, error) { return schema, nil }

// Reference returns the manifest reference in Markdown.
func Reference() string { return reference }
