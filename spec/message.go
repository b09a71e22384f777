package spec

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"gopkg.in/yaml.v3"
)

// describeType says which values a type accepts, without Go terms.
func describeType(t reflect.Type) string {
	switch t {
	case bytesType:
		return wantBytes
	case cpuType:
		return wantCPU
	case durationType:
		return wantDuration
	case textType:
		return "text or a number"
	case limitType:
		return wantLimit
	case ulimitType:
		return wantUlimit
	}
	switch t.Kind() {
	case reflect.Pointer:
		return describeType(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int64:
		return "a whole number"
	case reflect.Slice:
		return "a list such as [a, b]"
	case reflect.Map:
		if t.Elem().Kind() == reflect.Struct && t.Elem() != ulimitType {
			return "a map by name"
		}
		return "a map such as {KEY: value}"
	case reflect.Struct:
		names := shapeOf(t).supportedNames()
		if len(names) == 0 {
			return "{}"
		}
		if len(names) > 6 {
			return "a map of fields"
		}
		return "a map of fields (" + strings.Join(names, ", ") + ")"
	}
	return "text"
}

// describeNode describes a value in the file.
func describeNode(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a map"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!null":
		return "nothing (null)"
	case "!!bool", "!!int", "!!float":
		return shorten(n.Value, 60)
	}
	return quote(n.Value)
}

// quote returns text in quotes, safe for a terminal and not too long.
func quote(s string) string { return strconv.Quote(shorten(s, 60)) }

// shorten cuts text to at most n bytes, at the start of a character.
func shorten(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// escape shortens text that is printed without quotes, and escapes characters on which a
// terminal would act.
func escape(s string, n int) string {
	s = shorten(s, n)
	if !strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }) {
		return s
	}
	quoted := strconv.Quote(s)
	return quoted[1 : len(quoted)-1]
}

// oneOf joins choices: "a, b or c".
func oneOf(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}

// reportMismatch reports a node of the wrong kind.
func (d *decoder) reportMismatch(n *yaml.Node, t reflect.Type, path string) {
	d.errorAt(n, path, "found %s, want %s%s", describeNode(n), describeType(t), mismatchHint(n, t, path))
}

// nullMessage returns the error for a null.
func nullMessage(t reflect.Type) string {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if s := shapeOf(t); s != nil && len(s.fields) == 0 {
		return "found nothing (null), want {}"
	}
	if t.Kind() == reflect.String {
		return `found nothing (null), want text; write "" for an empty one`
	}
	return fmt.Sprintf("found nothing (null), want %s; give a value or remove the line", describeType(t))
}

// describeField says which values a required field accepts.
func describeField(path string, f shapeField) string {
	switch {
	case path == "spec.rootfs":
		return "want host: {}, path: /DIRECTORY or image: NAME below it"
	case path == "spec.network":
		return "want mode: none or mode: host below it"
	case path == "metadata.name":
		return "want a name such as web"
	case f.enum != nil:
		return "want " + oneOf(f.enum)
	}
	return "want " + describeType(f.typ)
}
