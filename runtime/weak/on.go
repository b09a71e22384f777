//go:build weak

package weak

import (
	"os"
	"slices"
	"strings"
)

// Built says whether this is a build with the tag.
const Built = true

// dir is open: some attacks happen in a mount namespace that lacks its path.
var dir *os.Root

// Dir says that the file is DIR/weak. It holds the names of the defences that
// are not there, one a line.
func Dir(path string) { dir, _ = os.OpenRoot(path) }

// Is says whether the file holds the name.
func Is(name string) bool {
	if dir == nil {
		return false
	}
	b, err := dir.ReadFile("weak")
	return err == nil && slices.Contains(strings.Split(string(b), "\n"), name)
}
