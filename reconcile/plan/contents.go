package plan

import (
	"cmp"
	"slices"

	"stead/runtime/status"
	"stead/spec"
)

// sameContents reports whether a running container has what the sources of its files hold.
func sameContents(st *status.Status, w *Want) bool {
	return !slices.ContainsFunc(w.Sources, func(s spec.Source) bool { return contentDiffers(st, w, &s) })
}

// contentDiffers reports whether a source holds something else than was written for a run, so
// that something is to be done now. What was not looked at differs from nothing, and nor does
// a file that comes with a restart. A job takes up new content at its next run.
func contentDiffers(st *status.Status, w *Want, s *spec.Source) bool {
	has, known := st.Files[s.Target]
	if !known || s.Sum == "" || s.Sum == has.Sum {
		return false
	}
	switch onChange(s, has) {
	case "restart":
		return w.Spec.Spec.Restart.Policy == "always"
	case "none":
		return s.Kind == spec.ForFile // variables change with a start only
	}
	return true
}

// OldContents returns the sources that hold something else than a running container has, though
// nothing is to be done now: it has the new content after its next start.
func OldContents(st *status.Status, w *Want) (fields []string) {
	if st.State != status.Running || w == nil {
		return nil
	}
	for i := range w.Sources {
		s := &w.Sources[i]
		has, known := st.Files[s.Target]
		if known && s.Sum != "" && s.Sum != has.Sum && !contentDiffers(st, w, s) {
			fields = append(fields, s.Field)
		}
	}
	return fields
}

// onChange returns what a change of a source does to a running container.
func onChange(s *spec.Source, has status.FileState) string {
	if s.Dir != has.Dir {
		return "restart" // a mount can't become another kind of file
	}
	return s.OnChange
}

// addContents adds the changes of what sources hold.
func (a *Action) addContents(st *status.Status, w *Want) {
	for i := range w.Sources {
		s := &w.Sources[i]
		if !contentDiffers(st, w, s) {
			continue
		}
		a.Changes = append(a.Changes, Change(spec.ContentChange(s.Field, onChange(s, st.Files[s.Target]))))
		a.content += s.Target + " " + s.Sum + "\n"
	}
	if a.content != "" {
		slices.SortStableFunc(a.Changes, func(x, y Change) int { return cmp.Compare(x.Path, y.Path) })
	}
}
