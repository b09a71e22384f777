package cgroup

import (
	"slices"
	"strings"
)

// MayJoin are the v1 directories that Join may ever say, there or not: a limit
// that is set later may make one.
func (g *Group) MayJoin() []string {
	return slices.DeleteFunc(g.paths(), func(dir string) bool {
		return g.host.unified != "" && strings.HasPrefix(dir, g.host.unified+"/")
	})
}
