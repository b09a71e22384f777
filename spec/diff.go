package spec

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Effect says what a changed field does to a running container.
type Effect string

// The effects. A field without an effect is part of the container's identity.
const (
	Live         Effect = "live"    // the change is made in place
	NeedsRestart Effect = "restart" // the processes are stopped and started again; the root stays
	NeedsReload  Effect = "reload"  // the change is made in place, and then the container reloads
)

// Change is one field in which two manifests differ.
type Change struct {
	Path          string // as in spec.resources.memory
	Before, After string // as in a manifest; "" means absent
	Effect        Effect
}

// String formats the change as a plan does: spec.resources.memory 128Mi → 256Mi.
func (c Change) String() string {
	if c.After == Changed {
		return c.Path + " " + Changed
	}
	return fmt.Sprintf("%s %s → %s", c.Path, cmp.Or(c.Before, "(absent)"), cmp.Or(c.After, "(absent)"))
}

// hidden replaces values that may be secrets.
const hidden = "(hidden)"

// Changed is Change.After of content, which may be secret: it is neither shown nor absent.
const Changed = "(changed)"

// ContentChange returns the change of the content under a field such as spec.files[/x], whose
// onChange says what it does to a running container.
func ContentChange(field, onChange string) Change {
	c := Change{Path: field, After: Changed, Effect: Live}
	switch onChange {
	case "restart":
		c.Effect = NeedsRestart
	case "reload":
		c.Effect = NeedsReload
	}
	return c
}

// Diff returns the fields in which two normalised manifests differ, sorted by path; nil
// if there are none. It does not compare the name, which is the identity.
func Diff(old, new *Container) []Change {
	var w differ
	if before, after := old.replicaText(), new.replicaText(); before != after { // STEAD_INDEX
		w.addChange("replica", before, after, NeedsRestart)
	}
	w.compareStructs(reflect.ValueOf(old).Elem(), reflect.ValueOf(new).Elem(), "", "")
	slices.SortFunc(w.changes, func(a, b Change) int { return cmp.Compare(a.Path, b.Path) })
	return w.changes
}

type differ struct{ changes []Change }

// effectOf returns the field's own effect, or else the effect of the field above it.
func effectOf(f shapeField, above Effect) Effect { return cmp.Or(f.effect, above) }

// compareStructs adds the changes between two structs of one type.
func (w *differ) compareStructs(old, new reflect.Value, path string, effect Effect) {
	for _, f := range shapeOf(old.Type()).fields {
		at := joinPath(path, f.name)
		if f.later || at == "apiVersion" || at == "kind" || at == "metadata.name" {
			continue
		}
		w.compareValues(old.Field(f.index), new.Field(f.index), at, effectOf(f, effect))
	}
}

func (w *differ) compareValues(old, new reflect.Value, path string, effect Effect) {
	switch t := old.Type(); {
	case t.Kind() == reflect.Map:
		w.compareMaps(old, new, path, effect)
	case t.Kind() == reflect.Struct:
		w.compareStructs(old, new, path, effect)
	case t.Kind() == reflect.Pointer && t.Elem().Kind() == reflect.Struct:
		if old.IsNil() && new.IsNil() {
			return
		}
		if len(shapeOf(t.Elem()).fields) == 0 {
			w.addChange(path, presence(old), presence(new), effect)
			return
		}
		w.compareStructs(orZero(old), orZero(new), path, effect)
	case t.Kind() == reflect.Pointer && !old.IsNil() && !new.IsNil():
		w.compareValues(old.Elem(), new.Elem(), path, effect)
	case !equal(old, new):
		before, after := trimCommonStart(formatValue(old), formatValue(new))
		w.addChange(path, before, after, effect)
	}
}

// compareMaps adds the changes between two maps. A missing key counts as an empty value.
func (w *differ) compareMaps(old, new reflect.Value, path string, effect Effect) {
	t := old.Type().Elem()
	keys := slices.Concat(old.MapKeys(), new.MapKeys())
	slices.SortFunc(keys, func(a, b reflect.Value) int { return cmp.Compare(a.String(), b.String()) })
	for _, key := range slices.CompactFunc(keys, reflect.Value.Equal) {
		before, after := old.MapIndex(key), new.MapIndex(key)
		at := joinPath(path, key.String())
		switch {
		case t == mountType && before.IsValid() && after.IsValid():
			w.compareMounts(before, after, at, effect)
		case t == fileType:
			w.compareFiles(before, after, at, effect)
		case t.Kind() == reflect.Struct && t != ulimitType:
			w.compareEntries(before, after, t, at, effect)
		case before.IsValid() && after.IsValid() && equal(before, after):
		case path == "spec.env":
			w.addChange(at, hideValue(before), hideValue(after), effect)
		default:
			b, a := trimCommonStart(showEntry(before), showEntry(after))
			w.addChange(at, b, a, effect)
		}
	}
}

// compareEntries adds the changes between two structs of a map. If one of them is missing,
// its fields count as defaults, so that only fields that somebody wrote are listed.
func (w *differ) compareEntries(before, after reflect.Value, t reflect.Type, path string, effect Effect) {
	if before.IsValid() && after.IsValid() {
		w.compareStructs(before, after, path, effect)
		return
	}
	there := before
	if !there.IsValid() {
		there = after
	}
	blank := reflect.New(t).Elem()
	for _, f := range shapeOf(t).fields {
		if f.defaultText != "" && !there.Field(f.index).IsZero() {
			setDefault(blank.Field(f.index), f)
		}
	}
	n := len(w.changes)
	if before.IsValid() {
		w.compareStructs(before, blank, path, effect)
	} else {
		w.compareStructs(blank, after, path, effect)
	}
	for i := range w.changes[n:] {
		w.changes[n+i].Effect = effect // one that comes or goes is more than a change of its fields
	}
	switch {
	case len(w.changes) > n:
	case before.IsValid():
		w.addChange(path, "{}", "", effect)
	default:
		w.addChange(path, "", "{}", effect)
	}
}

// compareMounts adds the changes between two mounts. A volume that is there keeps its owner and
// mode.
func (w *differ) compareMounts(before, after reflect.Value, path string, effect Effect) {
	n := len(w.changes)
	w.compareStructs(before, after, path, effect)
	old, new := before.Interface().(Mount), after.Interface().(Mount)
	for i := range w.changes[n:] {
		if c := &w.changes[n+i]; new.Volume != "" && new.Volume == old.Volume && (c.Path == path+".owner" || c.Path == path+".mode") {
			c.Effect, c.After = Live, cmp.Or(c.After, "(absent)")+" (of a new volume; this one stays as it is)"
		}
	}
}

// compareFiles adds the changes between two files. Their content is not shown.
func (w *differ) compareFiles(before, after reflect.Value, path string, effect Effect) {
	if before.IsValid() && after.IsValid() {
		old, new := before.Interface().(File), after.Interface().(File)
		if new.Content != nil && (old.Content == nil || *old.Content != *new.Content) {
			w.changes = append(w.changes, ContentChange(path, new.OnChange))
		}
	}
	w.compareEntries(hideContent(before), hideContent(after), fileType, path, effect)
}

// hideContent returns a file without its content.
func hideContent(v reflect.Value) reflect.Value {
	if !v.IsValid() {
		return v
	}
	f := v.Interface().(File)
	f.Content = nil
	return reflect.ValueOf(f)
}

func (w *differ) addChange(path, before, after string, effect Effect) {
	if before != after || before == hidden {
		w.changes = append(w.changes, Change{path, before, after, effect})
	}
}

func equal(a, b reflect.Value) bool {
	if a.Comparable() && a.Kind() != reflect.Pointer {
		return a.Equal(b)
	}
	return reflect.DeepEqual(a.Interface(), b.Interface())
}

func orZero(p reflect.Value) reflect.Value {
	if p.IsNil() {
		return reflect.Zero(p.Type().Elem())
	}
	return p.Elem()
}

func presence(p reflect.Value) string {
	if p.IsNil() {
		return ""
	}
	return "{}"
}

func hideValue(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	return hidden
}

// showEntry formats the value of a map. An empty text differs from an absent value.
func showEntry(v reflect.Value) string {
	if !v.IsValid() {
		return ""
	}
	return cmp.Or(formatValue(v), `""`)
}

// formatValue formats a value as a manifest would.
func formatValue(v reflect.Value) string {
	switch v.Kind() {
	case reflect.Pointer:
		if v.IsNil() {
			return ""
		}
		return formatValue(v.Elem())
	case reflect.Slice:
		if v.Len() == 0 {
			return ""
		}
		words := make([]string, v.Len())
		for i := range words {
			words[i] = cmp.Or(formatValue(v.Index(i)), `""`)
		}
		return "[" + strings.Join(words, ", ") + "]"
	case reflect.String:
		return quoteIfNeeded(v.String())
	}
	return fmt.Sprint(v.Interface())
}

// quoteIfNeeded quotes a text that is not a plain word of YAML.
func quoteIfNeeded(s string) string {
	if hasOnly(s, "-_./:@+=%") {
		return s
	}
	return strconv.Quote(s)
}

// trimCommonStart removes the common beginning of two long values and shortens both to
// a line, so that a plan shows where two scripts differ.
func trimCommonStart(a, b string) (string, string) {
	const line, context = 100, 20
	if len(a) > line || len(b) > line {
		same := 0
		for same < len(a) && same < len(b) && a[same] == b[same] {
			same++
		}
		if same -= context; same > context {
			for !utf8.RuneStart(a[same]) {
				same--
			}
			a, b = "…"+a[same:], "…"+b[same:]
		}
	}
	return shorten(a, line), shorten(b, line)
}
