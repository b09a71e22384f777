package view

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// maxNamed is how many containers or directories a note names.
const maxNamed = 5

// ExposedNotes returns the note about directories in which the roots of containers can leave
// set-user-ID files that other users of the host can run, by container; none if there are none.
func ExposedNotes(exposed map[string][]string) []string {
	names := slices.Sorted(maps.Keys(exposed))
	var dirs []string
	for _, name := range names {
		dirs = append(dirs, exposed[name]...)
	}
	slices.Sort(dirs)
	dirs = slices.Compact(dirs)
	switch {
	case len(names) == 0:
		return nil
	case len(names) == 1 && len(dirs) == 1:
		return []string{fmt.Sprintf("%s: its root can write to %s, where any user of this host can run a set-user-ID file that it leaves; put that below a directory of mode 0700", names[0], dirs[0])}
	}
	return []string{fmt.Sprintf("%s: their roots can write to directories where any user of this host can run a set-user-ID file that they leave; put these below directories of mode 0700: %s",
		listed(names), listed(dirs))}
}

// listed joins words, and counts those after the first few.
func listed(words []string) string {
	if len(words) > maxNamed {
		return fmt.Sprintf("%s and %d more", strings.Join(words[:maxNamed], ", "), len(words)-maxNamed)
	}
	return strings.Join(words, ", ")
}
