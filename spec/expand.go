package spec

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// refStart begins a reference to a value of stead. Any other ${ is kept in commands, where
// it is for the shell, and refused elsewhere.
const refStart = "${stead."

// expandReferences replaces the references in the fields that may hold them.
func (d *decoder) expandReferences(c *Container, host string) {
	e := expander{d: d, name: c.Metadata.Name, host: host, replica: c.Replica}
	if CheckName(e.name) != nil {
		e.name = "name" // fields that refer to the name must not have an error as well
	}
	s := &c.Spec
	s.Hostname = e.expandText("spec.hostname", s.Hostname)
	s.Rootfs.Path = e.expandText("spec.rootfs.path", s.Rootfs.Path)
	s.Rootfs.Image = e.expandText("spec.rootfs.image", s.Rootfs.Image)
	for i, word := range s.Command {
		s.Command[i] = e.expandWord("spec.command["+strconv.Itoa(i)+"]", word)
	}
	for i, word := range s.Args {
		s.Args[i] = e.expandWord("spec.args["+strconv.Itoa(i)+"]", word)
	}
	if s.Reload != nil {
		for i, word := range s.Reload.Exec {
			s.Reload.Exec[i] = e.expandWord("spec.reload.exec["+strconv.Itoa(i)+"]", word)
		}
	}
	if b := s.Backup; b != nil {
		b.Target = e.expandText("spec.backup.target", b.Target)
		e.expandHook("spec.backup.before", b.Before)
		e.expandHook("spec.backup.after", b.After)
	}
	for key, value := range s.Env {
		if text := e.expandText(joinPath("spec.env", key), string(value)); text != string(value) {
			s.Env[key] = Text(text)
		}
	}
	e.expandMounts(s)
	e.expandFiles(s)
	e.refuseReferences("spec.workingDir", s.WorkingDir)
	for name, device := range s.Devices {
		e.refuseReferences(joinPath("spec.devices", name), name)
		e.refuseReferences(joinPath("spec.devices", name)+".source", device.Source)
	}
}

func (e expander) expandHook(path string, h *Hook) {
	if h == nil {
		return
	}
	for i, word := range h.Exec {
		h.Exec[i] = e.expandWord(path+".exec["+strconv.Itoa(i)+"]", word)
	}
}

// refuseReferences reports a reference in a field where references are not expanded.
// Nobody means a directory that is really called ${...}.
func (e expander) refuseReferences(path, s string) {
	if strings.Contains(s, "${") {
		e.d.errorFor(path, "found %s: references are expanded in env, command, args, rootfs, mounts, sources of files and hostname only", quote(s))
	}
}

type expander struct {
	d          *decoder
	name, host string
	replica    *Replica // nil without replicas
}

// expandMounts expands sources and targets, and reports two targets that become equal.
func (e expander) expandMounts(s *Spec) {
	out := make(map[string]Mount, len(s.Mounts))
	if e.d.pathBeforeExpansion == nil {
		e.d.pathBeforeExpansion = map[string]string{}
	}
	for _, target := range slices.Sorted(maps.Keys(s.Mounts)) {
		path := joinPath("spec.mounts", target)
		m := s.Mounts[target]
		m.Source = e.expandText(path+".source", m.Source)
		m.Volume = e.expandText(path+".volume", m.Volume)
		expanded := e.expandText(path, target)
		if expanded != target {
			e.d.pathBeforeExpansion[joinPath("spec.mounts", expanded)] = path
		}
		if _, taken := out[expanded]; taken {
			e.d.errorFor(path, "another mount has the target %s too", quote(expanded))
		}
		out[expanded] = m
	}
	s.Mounts = out
}

// expandText expands the references in a text where any other ${...} is an error.
func (e expander) expandText(path, s string) string {
	return e.replace(s, func(ref string) (string, error) {
		return "", fmt.Errorf("found %s: stead substitutes only ${stead.*}; write the value, put it in a drop-in, or use envSecrets; literal: $%s", escape(ref, 40), escape(ref, 40))
	}, path)
}

// expandWord expands the references in a word of a command, where any other ${...} is for
// a shell.
func (e expander) expandWord(path, s string) string {
	if i := strings.Index(s, "$$"); i >= 0 && len(s) > i+2 && (isAlnum(s[i+2]) || s[i+2] == '_') {
		name := strings.FieldsFunc(s[i+2:], func(r rune) bool { return r >= utf8.RuneSelf || !isAlnum(byte(r)) && r != '_' })[0]
		e.d.warnFor(path, "found $$%s, which stays as it is, and is a shell's process id followed by %s; a plain $ needs no second one here", escape(name, 40), quote(name))
	}
	return e.replace(s, func(ref string) (string, error) { return ref, nil }, path)
}

// replace expands the references in a text. It calls other for each ${...} that is not a
// reference, and reports bad references.
func (e expander) replace(s string, other func(ref string) (string, error), path string) string {
	if !strings.Contains(s, "${") {
		return s
	}
	var out strings.Builder
	for s != "" {
		i := strings.Index(s, "${")
		if i < 0 {
			break
		}
		if i > 0 && s[i-1] == '$' { // $${ is a literal ${
			out.WriteString(s[:i-1] + "${")
			s = s[i+2:]
			continue
		}
		out.WriteString(s[:i])
		end := strings.IndexByte(s[i:], '}')
		ref, rest := s[i:], ""
		if end >= 0 {
			ref, rest = s[i:i+end+1], s[i+end+1:]
		}
		var value string
		var err error
		if key, ours := strings.CutPrefix(ref, refStart); ours {
			value, err = e.referenceValue(strings.TrimSuffix(key, "}"), end >= 0)
		} else if value, err = other(ref); err == nil {
			value, rest = "${", s[i+2:] // it may hold one of ours: ${X:-${stead.name}}
		}
		if err != nil {
			e.d.errorFor(path, "%s", err)
		}
		out.WriteString(value)
		s = rest
	}
	return out.String() + s
}

// referenceValue returns the value of ${stead.key}.
func (e expander) referenceValue(key string, closed bool) (string, error) {
	switch {
	case !closed:
		return "", fmt.Errorf("found %s without its }; write $${ for a literal one", quote(refStart+shorten(key, 20)))
	case key == "name":
		return e.name, nil
	case key == "host":
		return e.host, nil
	case key == "index" && e.replica != nil:
		return strconv.Itoa(e.replica.Index), nil
	case key == "index":
		return "", fmt.Errorf("${stead.index} needs replicas: it is the number of a replica")
	}
	return "", fmt.Errorf("found ${stead.%s}, want ${stead.name}, ${stead.index} or ${stead.host}; write $${stead.%s} for a literal one", escape(key, 40), escape(key, 40))
}
