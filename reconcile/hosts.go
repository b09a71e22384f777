package reconcile

import (
	"cmp"
	"fmt"
	"path/filepath"

	"stead/runtime/status"
	"stead/spec"
)

// renamed says why a container that is not for this host any more has to stay:
// its hosts matched when it was applied, and if those very patterns don't match
// now, it is this host's name that changed, by accident more often than not.
// The applied manifest is the durable fact of that. "" if that is not so.
func (p *planner) renamed(st *status.Status) string {
	if _, declared := p.elsewhere[st.Name]; !declared || spec.MatchHost(st.Applied.Spec.Hosts, p.Reading.Host) {
		return ""
	}
	return fmt.Sprintf("this host's name is %s now, which its hosts don't match", p.Reading.Host)
}

// goneCause says why a container is not declared any more.
func (p *planner) goneCause(st *status.Status, dir string) string {
	if c, declared := p.elsewhere[st.Name]; declared {
		return "hosts of " + shortName(c.origin()) + " leave this host out"
	}
	return "manifest gone from " + cmp.Or(dir, filepath.Dir(st.From.File))
}
