//go:build weak

package weak

import (
	"os"
	"slices"
	"strings"
)

// Built reports whether this is a build with the tag.
const Built = true

// dir is open: some attacks happen in a mount namespace that lacks its path.
var dir *os.Root

// Dir sets the directory of the file `weak`, which holds the names of the disabled defences, one
// a line.
func Dir(path string) { dir, _ = os.OpenRoot(path) }

// Is reports whether the file holds the name.
func Is(name string) bool {
	if dir == nil {
		return false
	}
	b, err := dir.ReadFile("weak")
	return err == nil && slices.Contains(strings.Split(string(b), "\n"), name)
}
