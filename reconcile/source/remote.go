package source

import "stead/runtime/hostpath"

// Shared returns the type of the file system of a directory if other machines or processes can
// change it, which inotify does not notice: such directories are polled. It returns "" for a
// local file system.
func Shared(dir string) string {
	if m := hostpath.Remote(dir); m != nil {
		return m.Type
	}
	return ""
}
