package source

import "strings"

// ignored reports whether a file or folder is skipped for its name, which is one that
// editors, package managers and version control leave behind.
func ignored(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), // hidden: .git, .web.yaml.swp, Kubernetes' ..data
		strings.HasPrefix(name, "#"),                                     // Emacs: #web.yaml#
		strings.HasSuffix(name, "~"),                                     // backups of vi and Emacs
		strings.HasSuffix(name, ".swp"), strings.HasSuffix(name, ".swx"), // Vim
		strings.HasSuffix(name, ".bak"), strings.HasSuffix(name, ".orig"), strings.HasSuffix(name, ".rej"),
		strings.HasSuffix(name, ".files"), // files for containers, which are not manifests
		strings.HasSuffix(name, ".tmp"), strings.HasSuffix(name, ".part"),
		strings.HasSuffix(name, ".dpkg-old"), strings.HasSuffix(name, ".dpkg-new"), strings.HasSuffix(name, ".dpkg-dist"),
		strings.HasSuffix(name, ".rpmsave"), strings.HasSuffix(name, ".rpmnew"),
		name == "4913": // Vim's probe whether it may write here
		return true
	}
	return false
}

// manifestName reports whether a file of that name is read as a manifest.
func manifestName(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".json")
}

// seemsMeant reports whether a file that is not read was probably meant to be, as a manifest or
// in a drop-in folder.
func seemsMeant(name string, dropIn bool) bool {
	return !ignored(name) && (manifestName(strings.ToLower(name)) || dropIn && strings.HasSuffix(name, ".conf"))
}

// Reads reports whether a file of that name is read as a manifest or as a drop-in.
func Reads(name string) bool { return manifestName(name) && !ignored(name) }

// isDropIn reports whether a folder holds drop-in fragments.
func isDropIn(name string) bool {
	return name == dropInForAll || strings.HasSuffix(name, "."+dropInForAll)
}

// dropInForAll is the name of a drop-in folder for all containers. A drop-in folder for one
// container has the name of the container and a dot in front.
const dropInForAll = "container.d"

// DropInFor returns the container that a drop-in folder is for, "" for all containers, and
// reports whether the folder is a drop-in folder.
func DropInFor(folder string) (name string, ok bool) {
	return strings.TrimSuffix(strings.TrimSuffix(folder, dropInForAll), "."), isDropIn(folder)
}
