package hostpath

import (
	"maps"
	"path"
	"strings"
)

// Order is a place from which stead takes what it does as root.
type Order struct {
	What string // "the manifest directory"
	Path string // absolute
	// State is set for stead's state directory: nothing is taken from the private
	// roots of containers in it.
	State bool
}

// Orders are the places from which stead takes orders, as they lie now. Whoever can
// write there is root on this host.
type Orders struct {
	at    map[string]Order  // by its path without links
	above map[string]string // what a place is that this path, or one below it, leads to
}

// Look finds out where places lie now.
func Look(list ...Order) *Orders {
	o := &Orders{at: map[string]Order{}, above: map[string]string{}}
	for _, order := range list {
		real, links := Resolve(order.Path)
		o.Add(order, real, links)
	}
	return o
}

// Add takes in a place that Resolve has looked at.
func (o *Orders) Add(order Order, real string, links []string) {
	what := order.What + " " + order.Path
	o.at[real] = order
	for _, name := range append(links, real) {
		for ; o.above[name] == ""; name = path.Dir(name) {
			o.above[name] = what
		}
	}
}

// Same tells whether two looks found the same.
func (o *Orders) Same(other *Orders) bool {
	return maps.Equal(o.at, other.at) && maps.Equal(o.above, other.above)
}

// Overlap tells how one of the paths under which a directory is shown, as Names gives
// them, lies in a place or holds one, or a link on the way to one; "" if none does.
func (o *Orders) Overlap(names []string) string {
	for _, name := range names {
		for dir := name; ; dir = path.Dir(dir) {
			order, is := o.at[dir]
			if is && dir == name {
				return "is " + order.What + " " + order.Path
			}
			if is && !(order.State && private(name[len(dir):])) {
				return "lies in " + order.What + " " + order.Path
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

// private tells whether a path below the state directory is in the private root of a
// container.
func private(below string) bool {
	p := strings.SplitN(below, "/", 5)
	return len(p) > 3 && (p[1] == "containers" || p[1] == "removed") && p[3] == "upper"
}

// Fault says why a container must not write to a directory or file; "" if it may.
func (o *Orders) Fault(names []string) string {
	how := o.Overlap(names)
	if how == "" {
		return ""
	}
	return "it " + how + ", and a container that can write there can become root on this host; name a place outside of it, or say readOnly: true"
}
