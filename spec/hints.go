package spec

import (
	"bytes"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"sync"

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

// isForeign tells that a document was never meant as a manifest of stead's.
func isForeign(root *yaml.Node) bool {
	version, kind := lookup(root, "apiVersion"), lookup(root, "kind")
	return (version == nil || !strings.HasPrefix(version.Value, "stead/")) && (kind == nil || kind.Value != Kind)
}

// isForeignText is isForeign for a file that is no valid YAML.
func isForeignText(data []byte) bool {
	return !manifestMark().Match(bytes.ReplaceAll(data, []byte{0}, nil)) // UTF-16 has NULs
}

var manifestMark = sync.OnceValue(func() *regexp.Regexp {
	return regexp.MustCompile(`["']?apiVersion["']?\s*:\s*["']?stead/|["']?kind["']?\s*:\s*["']?Container\b`)
})

// foreignKind explains a kind that is not ours; nil where the usual checks do.
func foreignKind(kind *yaml.Node) *Error {
	e := &Error{Line: kind.Line, Column: kind.Column, Path: "kind"}
	switch kind.Value {
	case "Template":
		e.Message = "there are no templates; what containers have in common goes into container.d/"
	case "Image":
		e.Message = "Image is not supported yet; until then: unpack it into a directory and write rootfs: {path: /DIRECTORY}"
	case "Network":
		e.Message = "Network is not supported yet; until then: network: {mode: host}, where a program's ports are the host's"
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
	} else if other := fieldElsewhere(shapeOf(reflect.TypeFor[Container]()), "", path, key.Value); other != "" && !d.config {
		message += "; did you mean " + other + "?"
	} else if names := s.served(); len(names) > 0 && len(names) <= 8 {
		message += "; known here: " + strings.Join(names, ", ")
	}
	d.at(key, at, "%s", message)
}

// brought explains what people bring from other tools, or from an older stead, by
// where it stands.
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
		case "envFrom":
			return "it is called envSecrets now, which is not supported yet; until then: " + laterHint("spec.envSecrets")
		case "runOnce":
			return "it is called rerun now: rerun: on-change (was spec) or on-boot (was boot)"
		}
		return misplaced(name)
	case "spec.rootfs":
		if name == "template" {
			return "there are no templates; use host: {} or path: /DIRECTORY"
		}
	case "spec.security":
		switch name {
		case "devices":
			return "devices is a field of spec now, a map by path: devices: {/dev/fuse: {}}, or with access: r for what was /dev/fuse:r"
		case "privileged":
			return stayedOut(name)
		}
	case "spec.resources":
		switch name {
		case "limits", "requests":
			return "write the limits directly under resources: resources: {memory: 256Mi, cpu: 500m}"
		case "cpus":
			return "did you mean cpu?"
		case "mem", "memoryLimit", "mem_limit":
			return "did you mean memory?"
		}
	case "spec.resources.io":
		switch name {
		case "max", "rbps", "wbps", "riops", "wiops", "devices":
			return "there are no limits for single devices; weight shares them out"
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
	case "env_file":
		return "did you mean envFiles? It is not supported yet; until then: " + laterHint("spec.envFiles")
	case "volumes", "volumeMounts":
		return "did you mean mounts? It is a map by target: mounts: {/data: {source: /srv/data}}"
	case "tmpfs", "shm_size":
		return "did you mean mounts? As in mounts: {/dev/shm: {tmpfs: {size: 1Gi}}}"
	case "ports":
		return "ports go under network, and are not supported yet; with network: {mode: host} the program's ports are the host's"
	case "cpus":
		return "did you mean resources.cpu?"
	case "mem_limit", "limits":
		return "did you mean resources? As in resources: {memory: 256Mi, cpu: 500m}"
	case "mem_reservation":
		return "did you mean resources.memoryLow?"
	case "entrypoint", "cmd":
		return "did you mean command?"
	case "restartPolicy":
		return "did you mean restart? As in restart: {policy: always}"
	case "network_mode":
		return "did you mean network: {mode: …}?"
	case "working_dir":
		return "did you mean workingDir?"
	case "container_name":
		return "did you mean metadata.name?"
	case "cap_add", "cap_drop":
		return "did you mean security.capabilities?"
	case "securityContext":
		return "did you mean security?"
	case "pid":
		return "did you mean security.pid?"
	case "read_only":
		return "did you mean rootfs.readOnly?"
	case "stop_signal", "stop_grace_period":
		return "did you mean stop? As in stop: {signal: TERM, timeout: 10s}"
	case "healthcheck":
		return "did you mean health? It is not supported yet; until then: " + laterHint("spec.health")
	case "depends_on":
		return "did you mean dependsOn? It is not supported yet; until then: " + laterHint("spec.dependsOn")
	}
	return stayedOut(name)
}

// stayedOut names the way to what the language leaves out for good.
func stayedOut(name string) string {
	switch name {
	case "privileged":
		return "name what it needs: devices, security.capabilities.add, sysctls, security.pid: host or security.userns: host"
	case "build":
		return "nothing is built here: have the directory made elsewhere, and write rootfs: {path: /DIRECTORY}"
	case "tty", "stdin_open", "stdin":
		return "stead exec -it NAME opens a terminal in it"
	case "links", "expose":
		return "with network: {mode: host} containers reach each other at 127.0.0.1"
	case "profiles":
		return "suspend: true keeps it stopped, and hosts says where it runs"
	case "extends", "include":
		return "what containers have in common goes into container.d/ beside the manifests, and what one has besides into NAME.container.d/"
	case "logging":
		return "output is kept in files, which logs limits: logs: {maxSize: 10Mi, keep: 5}; ship these, as stead logs -f prints them"
	case "pull_policy", "platform":
		return "there are no images yet; an image is what its reference says"
	case "blkio_config", "device_read_bps", "device_write_bps", "device_read_iops", "device_write_iops":
		return "there are no limits for single devices; resources: {io: {weight: 100}} shares them out"
	case "oom_score_adj", "oomScoreAdj", "oom_kill_disable":
		return "there is no score: resources: {memory: 256Mi} has the kernel end a container's own processes, and memoryLow protects it from others"
	case "ExecStartPre", "execStartPre", "preStart", "initContainer":
		return "until dependsOn is supported, do it in the command: [sh, -c, \"prepare && exec server\"]"
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

// fieldElsewhere returns the path of a field called name in another part of the
// manifest than path, "" if there is none. It searches s, which lies at.
func fieldElsewhere(s *shape, at, path, name string) string {
	for _, f := range s.fields {
		if f.later {
			continue
		}
		here := join(at, f.name)
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
