package spec

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// YAML prints a JSON value as YAML, its fields in their order. It is here
// because yaml.v3 is used in no other package.
func YAML(json []byte) ([]byte, error) {
	var n yaml.Node
	if err := yaml.Unmarshal(json, &n); err != nil { // JSON is YAML
		return nil, fmt.Errorf("print as YAML: %w", err)
	}
	useBlockStyle(&n)
	var b bytes.Buffer
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(&n); err != nil {
		return nil, fmt.Errorf("print as YAML: %w", err)
	}
	return b.Bytes(), nil
}

// useBlockStyle takes the braces and the quotes away; the encoder puts quotes where a
// text would else be read as something else.
func useBlockStyle(n *yaml.Node) {
	if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
		n.Style = 0
	}
	if n.Kind == yaml.ScalarNode && n.Tag == "!!str" {
		n.Style = 0
	}
	for _, c := range n.Content {
		useBlockStyle(c)
	}
}
