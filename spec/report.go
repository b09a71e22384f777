package spec

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// errorAt adds an error at a node.
func (d *decoder) errorAt(n *yaml.Node, path, format string, args ...any) {
	d.addError(path, n, fmt.Sprintf(format, args...))
}

// errorFor adds an error for a path, unless the path has one already.
func (d *decoder) errorFor(path, format string, args ...any) {
	if !d.tooManyErrors && !d.hasError(path) {
		d.addError(path, d.NodeOf(path), fmt.Sprintf(format, args...))
	}
}

// warnFor adds a warning: the manifest is valid, but probably not what was intended.
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

// pathAsWritten returns the path in the file of a path that expansion has changed.
func (d *decoder) pathAsWritten(path string) string {
	for up := path; up != ""; up = parentPath(up) {
		if as, ok := d.pathBeforeExpansion[up]; ok {
			return as + path[len(up):]
		}
	}
	return path
}

// place returns the position of a path, as an error without a message.
func (d *decoder) place(path string) *Error {
	n := d.NodeOf(path)
	return &Error{File: d.FileOf(n), Line: n.Line, Column: n.Column, Path: path}
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

// hasError reports whether the path, or a path above or below it, has an error.
func (d *decoder) hasError(path string) bool {
	for _, f := range d.errorPaths {
		if f == path || isBelow(f, path) || isBelow(path, f) {
			return true
		}
	}
	return false
}

// isBelow reports whether path lies below top.
func isBelow(path, top string) bool {
	return len(path) > len(top) && strings.HasPrefix(path, top) && (path[len(top)] == '.' || path[len(top)] == '[')
}
