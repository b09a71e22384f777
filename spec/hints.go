package spec

import (
	"bytes"
	"cmp"
	_ "embed"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

	"gopkg.in/yaml.v3"
)

// foreignError returns one helpful error for a document that is not a manifest of stead
// at all, in place of twenty; nil for any other document.
func foreignError(root *yaml.Node) *Error {
	e := &Error{Line: root.Line, Column: root.Column}
	const ours = "want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec"
	switch root.Kind {
	case yaml.MappingNode:
	case yaml.SequenceNode:
		e.Message = "found a list, " + ours + "; several manifests of one file are separated by --- lines"
		return e
	default:
		e.Message = "found " + describeNode(root) + ", " + ours
		return e
	}
	if kind := lookup(root, "kind"); kind != nil && kind.Value != Kind {
		return foreignKind(kind)
	}
	if version := lookup(root, "apiVersion"); version != nil && version.Kind == yaml.ScalarNode && version.Value != APIVersion && lookup(root, "kind") == nil {
		return nil // reported with the rest
	}
	if lookup(root, "apiVersion") == nil && lookup(root, "kind") == nil {
		if n := lookup(root, "services"); n != nil {
			e.Message = "this looks like a Compose file; " + ours + ", one document for each service"
			return e
		}
	}
	return nil
}

// isForeign reports whether a document is not meant as a manifest of stead.
func isForeign(root *yaml.Node) bool {
	version, kind := lookup(root, "apiVersion"), lookup(root, "kind")
	return (version == nil || !strings.HasPrefix(version.Value, "stead/")) && (kind == nil || kind.Value != Kind)
}

// isForeignText reports whether a file that is not valid YAML is not meant as a manifest.
func isForeignText(data []byte) bool {
	return !manifestMark().Match(bytes.ReplaceAll(data, []byte{0}, nil)) // UTF-16 has NULs
}

var manifestMark = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`["']?apiVersion["']?\s*:\s*["']?stead/|["']?kind["']?\s*:\s*["']?Container\b`)
})

// foreignKind returns an error for a kind of another tool or of a later version, else nil.
func foreignKind(kind *yaml.Node) *Error {
	hint := hintFor("kind", kind.Value)
	if hint == "" {
		return nil
	}
	return &Error{Line: kind.Line, Column: kind.Column, Path: "kind", Message: strings.Replace(hint, "KIND", kind.Value, 1)}
}

// reportUnknown reports a key that the struct at path does not know.
func (d *decoder) reportUnknown(key *yaml.Node, s *shape, path string) {
	at := joinPath(path, key.Value)
	message := "unknown field"
	if hint := fieldHint(path, key.Value); hint != "" && !d.isConfig {
		message += "; " + hint
	} else if near := Nearest(key.Value, s.supportedNames()); near != "" {
		message += "; did you mean " + near + "?"
		d.errorPaths = append(d.errorPaths, joinPath(path, near)) // so that the field is not reported as missing too
	} else if other := fieldElsewhere(shapeOf(reflect.TypeFor[Container]()), "", path, key.Value); other != "" && !d.isConfig {
		message += "; did you mean " + other + "?"
	} else if names := s.supportedNames(); len(names) > 0 && len(names) <= 9 {
		message += "; known here: " + strings.Join(names, ", ")
	}
	d.errorAt(key, at, "%s", message)
}

// fieldHint returns the hint for a field that other tools or an older stead have, "" if
// there is none.
func fieldHint(path, name string) string {
	hint := hintFor(cmp.Or(path, "top"), name)
	if hint == "" && (path == "" || path == "spec") {
		hint = hintFor("command", name)
	}
	return hint
}

// laterHint returns what to do until a field is supported. A hint holds for all fields
// below its path.
func laterHint(path string) string {
	for ; path != ""; path = parentPath(path) {
		if hint := hintFor("later", path); hint != "" {
			return hint
		}
	}
	return ""
}

// hints.txt describes its own format.
//
//go:embed hints.txt
var hints string

// hintFor returns the hint of a name in hints.txt, "" if there is none.
func hintFor(place, name string) string {
	for line := range strings.Lines(hints) {
		key, hint, _ := strings.Cut(strings.TrimSpace(line), ": ")
		linePlace, names, _ := strings.Cut(key, " ")
		if linePlace == place && slices.Contains(strings.Split(names, ","), name) {
			text, field, refers := strings.Cut(hint, "LATER ")
			if refers {
				text += laterHint(field)
			}
			return text
		}
	}
	return ""
}

// mismatchHint returns how to write a value that has the form of another tool.
func mismatchHint(n *yaml.Node, t reflect.Type, path string) string {
	scalar := n.Kind == yaml.ScalarNode
	word := escape(n.Value, 40)
	switch {
	case path == "spec.restart" && scalar:
		return "; write restart: {policy: " + translateRestartPolicy(n.Value) + "}"
	case path == "spec.network" && scalar:
		return "; write network: {mode: " + word + "}"
	case path == "spec.rootfs" && scalar && strings.HasPrefix(n.Value, "/"):
		return "; write rootfs: {path: " + word + "}"
	case path == "spec.rootfs" && scalar && n.Value == "host", path == "spec.rootfs.host":
		return "; write rootfs: {host: {}}"
	case strings.HasPrefix(path, "spec.mounts[") && scalar && t.Kind() == reflect.Struct && strings.HasPrefix(n.Value, "/"):
		return "; write {source: " + word + "}"
	case path == "spec.mounts" && n.Kind == yaml.SequenceNode:
		return "; write mounts by target: mounts: {/data: {source: /srv/data}}"
	case path == "spec.devices" && n.Kind == yaml.SequenceNode:
		return "; write devices by their path: devices: {/dev/fuse: {}}"
	case path == "spec.ulimits" && n.Kind == yaml.SequenceNode, path == "spec.sysctls" && n.Kind == yaml.SequenceNode:
		return "; write them by name: {NAME: VALUE}"
	case strings.HasPrefix(path, "spec.devices[") && scalar && (n.Value == "r" || n.Value == "w" || n.Value == "rw"):
		return "; write {access: " + word + "}"
	case strings.HasPrefix(path, "spec.devices[") && scalar && strings.HasPrefix(n.Value, "/"):
		return "; write {source: " + word + "}"
	case t.Kind() == reflect.Slice && scalar:
		return "; write [" + strings.Join(strings.Fields(word), ", ") + "]" + shellHint(path, n.Value)
	case t.Kind() == reflect.Bool && slices.Contains([]string{"yes", "no", "on", "off", "y", "n"}, strings.ToLower(n.Value)):
		return "; yes, no, on and off are text in YAML 1.2"
	case scalar && !isText(n) && (t.Kind() == reflect.String || t == textType):
		return "; quote it: \"" + word + "\""
	}
	return ""
}

// translateRestartPolicy translates the restart policies of other tools.
func translateRestartPolicy(word string) string {
	switch strings.ToLower(word) {
	case "no", "never", "false", "n":
		return "never"
	case "on-failure", "onfailure":
		return "on-failure"
	}
	return "always"
}

// shellHint returns a hint for a command line that needs a shell.
func shellHint(path, command string) string {
	if (path == "spec.command" || path == "spec.args") && strings.ContainsAny(command, " |;&") {
		return ", or [sh, -c, \"…\"] for a shell's command line"
	}
	return ""
}

// fieldElsewhere returns the path of a field called name in another part of the
// manifest than path, "" if there is none. It searches s, which lies at.
func fieldElsewhere(s *shape, at, path, name string) string {
	for _, f := range s.fields {
		if f.later {
			continue
		}
		here := joinPath(at, f.name)
		if f.name == name && at != "" && at != path {
			return here
		}
		if inner := structShape(f.typ); inner != nil {
			if found := fieldElsewhere(inner, here, path, name); found != "" {
				return found
			}
		}
	}
	return ""
}
