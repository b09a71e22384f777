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

// dropIn tells folders that hold fragments of manifests, not manifests.
func dropIn(name string) bool {
	return name == "container.d" || strings.HasSuffix(name, ".container.d")
}
