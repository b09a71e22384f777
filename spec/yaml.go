package spec

import (
	"bytes"
	"fmt"

	"gopkg.in/yaml.v3"
)

// YAML converts JSON to YAML and keeps the order of the fields. It is here because no
// other package uses yaml.v3.
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

// useBlockStyle removes braces and quotes. The encoder quotes texts that would not be read
// as text otherwise.
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
