package status

import "time"

// Hold is an admin's word that manifests are not to be followed for a while.
type Hold struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
}

// Holds are what is on hold on this host: STATE/holds.json. A value is never
// changed; Hold, Release and HoldRemovals make new ones.
type Holds struct {
	Host       *Hold           `json:"host,omitempty"` // everything
	Containers map[string]Hold `json:"containers,omitempty"`
	// Removals are those that wait for a confirmation as part of a mass removal,
	// and why: what is left of it when some is confirmed is no mass any more.
	Removals map[string]string `json:"removals,omitempty"`
}

// Of is the hold that a container is under, its own first; nil if none.
func (h *Holds) Of(name string) *Hold {
	if h == nil {
		return nil
	}
	if own, held := h.Containers[name]; held {
		return &own
	}
	return h.Host
}
