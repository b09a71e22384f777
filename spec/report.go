package spec

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// at reports an error at a node.
func (d *decoder) errorAt(n *yaml.Node, path, format string, args ...any) {
	d.addError(path, n, fmt.Sprintf(format, args...))
}

// report adds an error for a path whose node is not at hand.
func (d *decoder) errorFor(path, format string, args ...any) {
	if !d.tooManyErrors && !d.hasError(path) {
		d.addError(path, d.NodeOf(path), fmt.Sprintf(format, args...))
	}
}

// warn adds a warning: the manifest is valid, but hardly means what it says.
func (d *decoder) warnFor(path, format string, args ...any) {
	n := d.NodeOf(path)
	d.warnings = append(d.warnings, &Error{File: d.FileOf(n), Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

// nodeOf returns the node of a path, or of the nearest path above it that is in the file.
func (d *decoder) NodeOf(path string) *yaml.Node {
	for up := d.pathAsWritten(path); ; up = parentPath(up) {
		for _, p := range d.places {
			if p.path == up {
				return p.node
			}
		}
	}
}

// asWritten turns a path that expansion changed back into the file's.
func (d *decoder) pathAsWritten(path string) string {
	for up := path; up != ""; up = parentPath(up) {
		if as, ok := d.pathBeforeExpansion[up]; ok {
			return as + path[len(up):]
		}
	}
	return path
}

func (d *decoder) addError(path string, n *yaml.Node, message string) {
	if d.tooManyErrors {
		return
	}
	if len(d.errs) == maxErrors {
		d.tooManyErrors = true
		message = fmt.Sprintf("more than %d errors; the rest is not shown", maxErrors)
	}
	d.errs = append(d.errs, &Error{File: d.FileOf(n), Line: n.Line, Column: n.Column, Path: path, Message: message})
	d.errorPaths = append(d.errorPaths, path)
}

// fileOf returns the file of a node.
func (d *decoder) FileOf(n *yaml.Node) string {
	if f := d.fragmentOf[n]; f != nil {
		return f.File
	}
	return d.file
}

// isFaulty says whether the path, one above or one below it has an error.
func (d *decoder) hasError(path string) bool {
	for _, f := range d.errorPaths {
		if f == path || isBelow(f, path) || isBelow(path, f) {
			return true
		}
	}
	return false
}

// under says whether path lies below top.
func isBelow(path, top string) bool {
	return len(path) > len(top) && strings.HasPrefix(path, top) && (path[len(top)] == '.' || path[len(top)] == '[')
}
