package spec

import (
	"fmt"
	"slices"

	"gopkg.in/yaml.v3"
)

// maxAliasNodes is how many values the aliases of one document may stand for. Without a limit,
// a few lines of aliases of aliases would mean millions of values.
const maxAliasNodes = 10_000

// expandAliases replaces each alias (*name) below n by a copy of what its anchor (&name) stands
// for, and forgets the anchors. A copy keeps the position of the original, where an error in it
// is to be mended.
func expandAliases(n *yaml.Node) *Error {
	e := aliasExpansion{anchors: map[*yaml.Node]bool{}, left: maxAliasNodes}
	e.expand(n)
	return e.err
}

type aliasExpansion struct {
	anchors map[*yaml.Node]bool // those of this document that the walk has come to
	within  []*yaml.Node        // those that it is in
	left    int
	err     *Error
}

func (e *aliasExpansion) expand(n *yaml.Node) {
	if n.Anchor != "" {
		e.anchors[n] = true
		e.within = append(e.within, n)
		defer func() { e.within = e.within[:len(e.within)-1] }()
	}
	for i, c := range n.Content {
		switch {
		case c.Kind != yaml.AliasNode:
			e.expand(c)
		case !e.anchors[c.Alias]: // yaml.v3 knows those of earlier documents
			e.fail(c, fmt.Sprintf("unknown anchor (&%s): an anchor is known in its own document only", escape(c.Value, 40)))
		case slices.Contains(e.within, c.Alias):
			e.fail(c, fmt.Sprintf("the anchor (&%s) contains itself", escape(c.Value, 40)))
		default:
			n.Content[i] = e.copy(c.Alias, c)
		}
		if e.err != nil {
			return
		}
	}
}

// copy returns a copy of what an alias stands for. That comes before the alias, so its own
// aliases are replaced already.
func (e *aliasExpansion) copy(n, alias *yaml.Node) *yaml.Node {
	if e.left--; e.left < 0 {
		e.fail(alias, fmt.Sprintf("the aliases of this document stand for more than %d values; write some of them out", maxAliasNodes))
		return n
	}
	c := *n
	c.Anchor = ""
	c.Content = make([]*yaml.Node, len(n.Content))
	for i := range n.Content {
		if c.Content[i] = e.copy(n.Content[i], alias); e.err != nil {
			break
		}
	}
	return &c
}

func (e *aliasExpansion) fail(n *yaml.Node, message string) {
	if e.err == nil {
		e.err = &Error{Line: n.Line, Column: n.Column, Message: message}
	}
}
