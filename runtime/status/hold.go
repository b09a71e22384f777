package status

import "time"

// Hold pauses reconciliation of a container or of the host, by an admin's order.
type Hold struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Holds are the holds of this host, as in STATE/holds.json. A value is never changed;
// store.Holds makes new ones.
type Holds struct {
	Host       *Hold           `json:"host,omitempty"` // everything
	Containers map[string]Hold `json:"containers,omitempty"`
	// Removals are the reasons, by container, of removals that wait for a confirmation as
	// part of a mass removal. They stay held when the rest is too few for a mass removal.
	Removals map[string]string `json:"removals,omitempty"`
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
