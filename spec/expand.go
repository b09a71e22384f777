package spec

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// refStart begins a reference to one of stead's own values. Every other $ is
// left alone: shells and programs have their own use for it.
const refStart = "${stead."

// expand replaces the references in the fields that take them.
func (d *decoder) expand(c *Container, host string) {
	e := expander{d: d, name: c.Metadata.Name, host: host}
	if CheckName(e.name) != nil {
		e.name = "name" // what holds it must not seem wrong as well
	}
	s := &c.Spec
	s.Hostname = e.text("spec.hostname", s.Hostname)
	for i, word := range s.Command {
		s.Command[i] = e.text("spec.command["+strconv.Itoa(i)+"]", word)
	}
	for i, word := range s.Args {
		s.Args[i] = e.text("spec.args["+strconv.Itoa(i)+"]", word)
	}
	for key, value := range s.Env {
		if text := e.text(join("spec.env", key), string(value)); text != string(value) {
			s.Env[key] = Text(text)
		}
	}
	e.mounts(s)
	e.literal("spec.rootfs.path", s.Rootfs.Path)
	e.literal("spec.workingDir", s.WorkingDir)
}

// literal refuses a reference where none is expanded: a directory of that very
// name is not what was meant.
func (e expander) literal(path, s string) {
	if strings.Contains(s, refStart) {
		e.d.report(path, "found %s: references are expanded in env, command, args, mounts and hostname only", quote(s))
	}
}

type expander struct {
	d          *decoder
	name, host string
}

// mounts expands sources and targets. Two targets may become the same.
func (e expander) mounts(s *Spec) {
	out := make(map[string]Mount, len(s.Mounts))
	e.d.written = map[string]string{}
	for _, target := range sortedKeys(s.Mounts) {
		path := join("spec.mounts", target)
		m := s.Mounts[target]
		m.Source = e.text(path+".source", m.Source)
		expanded := e.text(path, target)
		if expanded != target {
			e.d.written[join("spec.mounts", expanded)] = path
		}
		if _, taken := out[expanded]; taken {
			e.d.report(path, "another mount has the target %s too", quote(expanded))
		}
		out[expanded] = m
	}
	s.Mounts = out
}

// text expands one value; a bad reference is reported and left.
func (e expander) text(path, s string) string {
	if !strings.Contains(s, refStart) {
		return s
	}
	var out strings.Builder
	for s != "" {
		switch {
		case strings.HasPrefix(s, "$"+refStart):
			out.WriteString(refStart)
			s = s[1+len(refStart):]
		case strings.HasPrefix(s, refStart):
			key, rest, closed := strings.Cut(s[len(refStart):], "}")
			value, err := e.value(key, closed)
			if err != nil {
				e.d.report(path, "%s", err)
			}
			out.WriteString(value)
			s = rest
		default:
			out.WriteByte(s[0])
			s = s[1:]
		}
	}
	return out.String()
}

func (e expander) value(key string, closed bool) (string, error) {
	switch {
	case !closed:
		return "", fmt.Errorf("found %s without its }; write $${stead. for a literal one", quote(refStart+shorten(key, 20)))
	case key == "name":
		return e.name, nil
	case key == "host":
		return e.host, nil
	case key == "index":
		return "", fmt.Errorf("${stead.index} is not supported yet")
	}
	return "", fmt.Errorf("found ${stead.%s}, want ${stead.name} or ${stead.host}; write $${stead.%s} for a literal one", printable(key, 40), printable(key, 40))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
