package spec

import (
	"reflect"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"
)

// foreign recognises a document that is no manifest of ours at all, so that it
// gets one helpful error in place of twenty.
func foreign(root *yaml.Node) *Error {
	e := &Error{Line: root.Line, Column: root.Column}
	const ours = "want a manifest: apiVersion: stead/v1, kind: Container, metadata, spec"
	switch root.Kind {
	case yaml.MappingNode:
	case yaml.SequenceNode:
		e.Message = "found a list, " + ours + "; several manifests of one file are separated by --- lines"
		return e
	default:
		e.Message = "found " + found(root) + ", " + ours
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

// foreignKind explains a kind that is not ours; nil where the usual checks do.
func foreignKind(kind *yaml.Node) *Error {
	e := &Error{Line: kind.Line, Column: kind.Column, Path: "kind"}
	switch kind.Value {
	case "Template":
		e.Message = "Template is not supported yet"
	case "Pod", "Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob", "Service", "ConfigMap", "Secret", "Ingress", "Namespace", "PersistentVolumeClaim", "List":
		e.Message = "found " + kind.Value + " of Kubernetes, want Container; one manifest is one container, with command, env and resources directly under spec"
	default:
		return nil
	}
	return e
}

// unknown reports a key that the struct at path does not have.
func (d *decoder) unknown(key *yaml.Node, s *shape, path string) {
	at := join(path, key.Value)
	message := "unknown field"
	if hint := brought(path, key.Value); hint != "" && !d.config {
		message += "; " + hint
	} else if near := nearest(key.Value, s.served()); near != "" {
		message += "; did you mean " + near + "?"
		d.faulty = append(d.faulty, join(path, near)) // it is not "missing" as well
	} else if other := elsewhere(path, key.Value); other != "" && !d.config {
		message += "; did you mean " + other + "?"
	} else if names := s.served(); len(names) > 0 && len(names) <= 8 {
		message += "; known here: " + strings.Join(names, ", ")
	}
	d.at(key, at, "%s", message)
}

// brought explains what people bring from other tools, by where it stands.
func brought(path, name string) string {
	switch path {
	case "":
		switch name {
		case "services", "version":
			return "this is of Compose; one document here is one container"
		}
		return misplaced(name)
	case "metadata":
		if name == "namespace" {
			return "there are no namespaces: a name is unique on its host"
		}
	case "spec":
		switch name {
		case "containers", "initContainers", "template", "selector":
			return "one manifest is one container: command, env and resources stand directly under spec"
		}
		return misplaced(name)
	case "spec.resources":
		switch name {
		case "limits", "requests":
			return "write the limits directly under resources: resources: {memory: 256Mi, cpu: 500m}"
		case "cpus":
			return "did you mean cpu?"
		case "mem", "memoryLimit", "mem_limit":
			return "did you mean memory?"
		}
	}
	return ""
}

// misplaced explains fields that other tools have beside the command.
func misplaced(name string) string {
	switch name {
	case "image":
		return "an image goes under rootfs, and is not supported yet; use rootfs: {host: {}} or rootfs: {path: /DIRECTORY}"
	case "environment":
		return "did you mean env? It is a map: env: {TZ: UTC}"
	case "volumes", "volumeMounts":
		return "did you mean mounts? It is a map by target: mounts: {/data: {source: /srv/data}}"
	case "ports":
		return "ports go under network, and are not supported yet; with network: {mode: host} the program's ports are the host's"
	case "cpus":
		return "did you mean resources.cpu?"
	case "mem_limit", "limits":
		return "did you mean resources? As in resources: {memory: 256Mi, cpu: 500m}"
	case "entrypoint", "cmd":
		return "did you mean command?"
	case "restartPolicy":
		return "did you mean restart? As in restart: {policy: always}"
	case "network_mode":
		return "did you mean network: {mode: …}?"
	case "working_dir":
		return "did you mean workingDir?"
	case "cap_add", "cap_drop":
		return "did you mean security.capabilities?"
	case "securityContext":
		return "did you mean security?"
	}
	return ""
}

// laterHint says what to use in place of a field that is not served yet.
func laterHint(path string) string {
	switch path {
	case "spec.rootfs.image", "spec.rootfs.template":
		return "; use host: {} or path: /DIRECTORY"
	case "spec.network.ports":
		return "; with mode: host the program's ports are the host's"
	}
	return ""
}

// mismatchHint says how to write a value that came in another tool's form.
func mismatchHint(n *yaml.Node, t reflect.Type, path string) string {
	scalar := n.Kind == yaml.ScalarNode
	word := printable(n.Value, 40)
	switch {
	case path == "spec.restart" && scalar:
		return "; write restart: {policy: " + restartPolicy(n.Value) + "}"
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
	case t.Kind() == reflect.Slice && scalar:
		return "; write [" + word + "]" + shellHint(path, n.Value)
	case t.Kind() == reflect.Bool && slices.Contains([]string{"yes", "no", "on", "off", "y", "n"}, strings.ToLower(n.Value)):
		return "; yes, no, on and off are text in YAML 1.2"
	case scalar && !isText(n) && (t.Kind() == reflect.String || t == textType):
		return "; quote it: \"" + word + "\""
	}
	return ""
}

// restartPolicy translates the words of other tools.
func restartPolicy(word string) string {
	switch strings.ToLower(word) {
	case "no", "never", "false", "n":
		return "never"
	case "on-failure", "onfailure":
		return "on-failure"
	}
	return "always"
}

func shellHint(path, command string) string {
	if (path == "spec.command" || path == "spec.args") && strings.ContainsAny(command, " |;&") {
		return ", or [sh, -c, \"…\"] for a shell's command line"
	}
	return ""
}

// elsewhere finds a field of that name in another part of the manifest.
func elsewhere(path, name string) string {
	for _, f := range fieldTable() {
		if strings.HasSuffix(f.Path, "."+name) && !strings.Contains(f.Path, "*") && parentPath(f.Path) != path {
			return f.Path
		}
	}
	return ""
}

// nearest is the name that a typing mistake most likely meant, "" if none is
// close: a third of the letters may differ.
func nearest(word string, names []string) string {
	best, least := "", len(word)/3+1
	if len(word) > 40 || len(word) < 2 {
		return ""
	}
	for _, name := range names {
		if n := editDistance(strings.ToLower(word), strings.ToLower(name)); n < least || n == least && best == "" {
			best, least = name, n
		}
	}
	return best
}

// editDistance counts the letters to add, drop, change or swap with their
// neighbour (optimal string alignment).
func editDistance(a, b string) int {
	var before, above []int
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := 1; i <= len(a); i++ {
		before, above, row = above, row, make([]int, len(b)+1)
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := above[j-1]
			if a[i-1] != b[j-1] {
				change++
			}
			row[j] = min(change, above[j]+1, row[j-1]+1)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
	}
	return row[len(b)]
}
