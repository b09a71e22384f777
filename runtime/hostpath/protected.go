package hostpath

import (
	"maps"
	"path"
	"strings"
)

// Protected is a path that no container may write to, because stead acts as root on what it
// finds there: manifests, configuration, its own state.
type Protected struct {
	What string // "the manifest directory"
	Path string // absolute
	// State is set for stead's state directory. Containers may write to their own private
	// roots in it.
	State bool
}

// ProtectedPaths is a set of protected paths with resolved links.
type ProtectedPaths struct {
	at    map[string]Protected // by its path without links
	above map[string]string    // description of the protected path that this path, or one below it, leads to
}

// FindProtected resolves protected paths.
func FindProtected(list ...Protected) *ProtectedPaths {
	o := &ProtectedPaths{at: map[string]Protected{}, above: map[string]string{}}
	for _, p := range list {
		real, links := Resolve(p.Path)
		o.Add(p, real, links)
	}
	return o
}

// Add adds a protected path. real and links are the results of Resolve.
func (o *ProtectedPaths) Add(p Protected, real string, links []string) {
	what := p.What + " " + p.Path
	o.at[real] = p
	for _, name := range append(links, real) {
		for ; o.above[name] == ""; name = path.Dir(name) {
			o.above[name] = what
		}
	}
}

// Same reports whether both sets are equal.
func (o *ProtectedPaths) Same(other *ProtectedPaths) bool {
	return maps.Equal(o.at, other.at) && maps.Equal(o.above, other.above)
}

// Overlap describes how a directory overlaps a protected path: it lies in one, or contains one
// or a link on the way to one. names are all its paths (Names). It returns "" without an
// overlap.
func (o *ProtectedPaths) Overlap(names []string) string {
	for _, name := range names {
		for dir := name; ; dir = path.Dir(dir) {
			p, is := o.at[dir]
			if is && dir == name {
				return "is " + p.What + " " + p.Path
			}
			if is && !(p.State && private(name[len(dir):])) {
				return "lies in " + p.What + " " + p.Path
			}
			if dir == "/" {
				break
			}
		}
		if what := o.above[name]; what != "" {
			return "contains " + what
		}
	}
	return ""
}

// private reports whether a path below the state directory is in the private root or a volume of a
// container.
func private(below string) bool {
	p := strings.SplitN(below, "/", 5)
	return len(p) > 3 && (p[1] == "containers" || p[1] == "removed") && (p[3] == "upper" || p[3] == "volumes")
}

// WriteRefusal returns why a container must not write to a directory or file; "" if it may.
func (o *ProtectedPaths) WriteRefusal(names []string) string {
	how := o.Overlap(names)
	if how == "" {
		return ""
	}
	return "it " + how + ", and a container that can write there can become root on this host; name a place outside of it, or say readOnly: true"
}
