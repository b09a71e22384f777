package spec

import (
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// CopyText rewrites the text of a manifest so that it declares another container of the same kind:
// as, which differs in its name, its hostname and the volumes of its mounts, and may have no backup.
// All else, comments too, stays as its author wrote it. ok is false if the text is written in a way
// that can't be changed in place; what comes out has to be parsed and compared in any case.
func CopyText(text string, as *Container) (out string, ok bool) {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(text), &doc) != nil || len(doc.Content) != 1 {
		return "", false
	}
	root := doc.Content[0]
	e := textEditor{lines: strings.SplitAfter(text, "\n")}
	_, name := member(root, "metadata", "name")
	ok = name != nil && e.replace(name, as.Metadata.Name)
	if _, host := member(root, "spec", "hostname"); host != nil {
		ok = ok && e.replace(host, as.Spec.Hostname)
	}
	if _, mounts := member(root, "spec", "mounts"); mounts != nil && mounts.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(mounts.Content); i += 2 {
			_, volume := member(mounts.Content[i+1], "volume")
			if volume != nil {
				ok = ok && e.replace(volume, as.Spec.Mounts[mounts.Content[i].Value].Volume)
			}
		}
	}
	if key, value := member(root, "spec", "backup"); key != nil && as.Spec.Backup == nil {
		_, above := member(root, "spec")
		ok = ok && above.Style&yaml.FlowStyle == 0 && e.remove(key, value)
	}
	return e.text(), ok
}

// member returns the key and the value of a field in a mapping, nil if it is not there.
func member(n *yaml.Node, path ...string) (key, value *yaml.Node) {
	value = n
	for _, name := range path {
		if value.Kind != yaml.MappingNode {
			return nil, nil
		}
		i := slices.IndexFunc(value.Content, func(n *yaml.Node) bool { return n.Value == name })
		if i < 0 || i%2 != 0 || i+1 >= len(value.Content) {
			return nil, nil
		}
		key, value = value.Content[i], value.Content[i+1]
	}
	return key, value
}

// textEditor changes scalars of a text in place. Positions are those of the text as it was.
type textEditor struct {
	lines []string
	edits []textEdit
}

type textEdit struct {
	line, column int // from 0, in characters
	old, new     string
}

// replace replaces a scalar that is written on one line as it is meant.
func (e *textEditor) replace(n *yaml.Node, value string) bool {
	if n.Kind != yaml.ScalarNode || value == "" {
		return false
	}
	quote := map[yaml.Style]string{yaml.DoubleQuotedStyle: `"`, yaml.SingleQuotedStyle: "'"}[n.Style]
	edit := textEdit{n.Line - 1, n.Column - 1, quote + n.Value + quote, quote + value + quote}
	line := []rune(e.lines[edit.line])
	if edit.column > len(line) || !strings.HasPrefix(string(line[edit.column:]), edit.old) {
		return false
	}
	e.edits = append(e.edits, edit)
	return true
}

// remove removes the lines of a field of a mapping in block style.
func (e *textEditor) remove(key, value *yaml.Node) bool {
	first := key.Line - 1
	if indentOf(e.lines[first]) != key.Column-1 {
		return false
	}
	last := first
	for i := first + 1; i < len(e.lines); i++ {
		if strings.TrimSpace(e.lines[i]) == "" {
			continue
		}
		if indentOf(e.lines[i]) < key.Column && !(value.Style&yaml.FlowStyle != 0 && i < lastLine(value)) {
			break
		}
		last = i
	}
	for i := first; i <= last; i++ {
		e.lines[i] = ""
	}
	return true
}

func indentOf(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// lastLine returns the number of the last line on which a part of a node begins.
func lastLine(n *yaml.Node) int {
	last := n.Line
	for _, c := range n.Content {
		last = max(last, lastLine(c))
	}
	return last
}

// text returns the changed text.
func (e *textEditor) text() string {
	slices.SortFunc(e.edits, func(a, b textEdit) int { return b.column - a.column }) // later ones of a line first
	for _, edit := range e.edits {
		line := []rune(e.lines[edit.line])
		if edit.column > len(line) {
			continue // in a field that was removed
		}
		rest := strings.TrimPrefix(string(line[edit.column:]), edit.old)
		e.lines[edit.line] = string(line[:edit.column]) + edit.new + rest
	}
	return strings.Join(e.lines, "")
}
