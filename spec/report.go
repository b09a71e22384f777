package spec

import (
	"fmt"
	"strings"

	"gopkg.in/yaml.v3"
)

// at reports an error at a node.
func (d *decoder) at(n *yaml.Node, path, format string, args ...any) {
	d.add(path, n, fmt.Sprintf(format, args...))
}

// report adds an error for a path whose node is not at hand.
func (d *decoder) report(path, format string, args ...any) {
	if !d.full && !d.isFaulty(path) {
		d.add(path, d.nodeOf(path), fmt.Sprintf(format, args...))
	}
}

// warn adds a warning: the manifest is valid, but hardly means what it says.
func (d *decoder) warn(path, format string, args ...any) {
	n := d.nodeOf(path)
	d.warnings = append(d.warnings, &Error{File: d.fileOf(n), Line: n.Line, Column: n.Column, Path: path, Message: fmt.Sprintf(format, args...)})
}

// nodeOf returns where a path stands, or the nearest one above it that is in the file.
func (d *decoder) nodeOf(path string) *yaml.Node {
	for up := d.asWritten(path); ; up = parentPath(up) {
		for _, p := range d.places {
			if p.path == up {
				return p.node
			}
		}
	}
}

// asWritten turns a path that expansion changed back into the file's.
func (d *decoder) asWritten(path string) string {
	for up := path; up != ""; up = parentPath(up) {
		if as, ok := d.written[up]; ok {
			return as + path[len(up):]
		}
	}
	return path
}

func (d *decoder) add(path string, n *yaml.Node, message string) {
	if d.full {
		return
	}
	if len(d.errs) == maxErrors {
		d.full = true
		message = fmt.Sprintf("more than %d errors; the rest is not shown", maxErrors)
	}
	d.errs = append(d.errs, &Error{File: d.fileOf(n), Line: n.Line, Column: n.Column, Path: path, Message: message})
	d.faulty = append(d.faulty, path)
}

// fileOf is the file that a node stands in.
func (d *decoder) fileOf(n *yaml.Node) string {
	if f := d.merged[n]; f != nil {
		return f.File
	}
	return d.file
}

// isFaulty says whether the path, one above or one below it has an error.
func (d *decoder) isFaulty(path string) bool {
	for _, f := range d.faulty {
		if f == path || under(f, path) || under(path, f) {
			return true
		}
	}
	return false
}

// under says whether path lies below top.
func under(path, top string) bool {
	return len(path) > len(top) && strings.HasPrefix(path, top) && (path[len(top)] == '.' || path[len(top)] == '[')
}
