package source

import "strings"

// ignored tells names that editors, package managers and version control leave
// behind: neither files nor folders of these names are looked at.
func ignored(name string) bool {
	switch {
	case strings.HasPrefix(name, "."), // hidden: .git, .web.yaml.swp, Kubernetes' ..data
		strings.HasPrefix(name, "#"),                                     // Emacs: #web.yaml#
		strings.HasSuffix(name, "~"),                                     // backups of vi and Emacs
		strings.HasSuffix(name, ".swp"), strings.HasSuffix(name, ".swx"), // Vim
		strings.HasSuffix(name, ".bak"), strings.HasSuffix(name, ".orig"), strings.HasSuffix(name, ".rej"),
		strings.HasSuffix(name, ".files"), // what manifests bring into containers, which is no manifest itself
		strings.HasSuffix(name, ".tmp"), strings.HasSuffix(name, ".part"),
		strings.HasSuffix(name, ".dpkg-old"), strings.HasSuffix(name, ".dpkg-new"), strings.HasSuffix(name, ".dpkg-dist"),
		strings.HasSuffix(name, ".rpmsave"), strings.HasSuffix(name, ".rpmnew"),
		name == "4913": // Vim's probe whether it may write here
		return true
	}
	return false
}

// manifestName tells whether a file of that name is read as a manifest.
func manifestName(name string) bool {
	return strings.HasSuffix(name, ".yaml") || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".json")
}

// Reads tells whether a file of that name is read as a manifest or as a drop-in.
func Reads(name string) bool { return manifestName(name) && !ignored(name) }

// isDropIn tells folders that hold fragments of manifests, not manifests.
func isDropIn(name string) bool {
	return name == dropInForAll || strings.HasSuffix(name, "."+dropInForAll)
}

// forAll is the drop-in folder whose fragments are for all containers; one for a
// single container has its name and a dot before that.
const dropInForAll = "container.d"

// DropInFor is the container that a drop-in folder is for, "" for all.
func DropInFor(folder string) (name string, ok bool) {
	return strings.TrimSuffix(strings.TrimSuffix(folder, dropInForAll), "."), isDropIn(folder)
}
