package status

import (
	"time"

	"stead/spec"
)

// Hold pauses reconciliation of a container or of the host, by an admin's order.
type Hold struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Holds are the holds of this host, as in STATE/holds.json. A value is never changed;
// store.Holds makes new ones.
type Holds struct {
	Host       *Hold           `json:"host,omitempty"`       // everything
	Containers map[string]Hold `json:"containers,omitempty"` // a name of a manifest stands for all its replicas
	// Removals are the reasons, by container, of removals that wait for a confirmation as
	// part of a mass removal. They stay held when the rest is too few for a mass removal.
	Removals map[string]string `json:"removals,omitempty"`
}

// OfContainer returns the hold of a container: its own, that of the manifest that it is a
// replica of, or else the host's; nil if none.
func (h *Holds) OfContainer(c *spec.Container) *Hold {
	if h == nil {
		return nil
	}
	if _, own := h.Containers[c.Metadata.Name]; !own && c.Replica != nil {
		return h.Of(c.Group())
	}
	return h.Of(c.Metadata.Name)
}

// Of returns the hold of a container: its own, or else the host's; nil if none.
func (h *Holds) Of(name string) *Hold {
	if h == nil {
		return nil
	}
	if own, held := h.Containers[name]; held {
		return &own
	}
	return h.Host
}
