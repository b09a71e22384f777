package main

import (
	"slices"
	"strings"
	"time"

	"stead/reconcile/plan"
	"stead/runtime/store"
)

// removedView is a removed container whose data is kept.
type removedView struct {
	Name      string    `json:"name"`
	Entry     string    `json:"entry"` // what stead purge takes
	RemovedAt time.Time `json:"removedAt"`
	ExpiresAt time.Time `json:"expiresAt"`
	Deleting  bool      `json:"deleting"` // its deletion began, and is under way or failed
	Path      string    `json:"path"`
	Manifest  string    `json:"manifest"` // its last file; "" if unknown
}

// psRemoved prints the removed containers whose data is kept.
func (a *app) psRemoved(names []string, output string) error {
	all, err := a.removed()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(r store.RemovedContainer) bool { return r.Is(name) }) {
			return exitWith(exitMissing, "no removed container %s", name)
		}
	}
	views := []removedView{}
	for _, r := range all {
		if len(names) > 0 && !slices.ContainsFunc(names, r.Is) {
			continue
		}
		views = append(views, removedView{
			Name: r.Name, Entry: r.Entry, RemovedAt: r.RemovedAt, ExpiresAt: r.RemovedAt.Add(a.retention),
			Deleting: r.Deleting, Path: r.Path, Manifest: plan.ManifestName(r.From),
		})
	}
	if output != "table" && output != "wide" {
		return printList(a.out, views, output, func(v removedView) string { return v.Entry })
	}
	headings := "NAME REMOVED EXPIRES ENTRY"
	if output == "wide" {
		headings += " PATH MANIFEST"
	}
	var rows [][]string
	for _, v := range views {
		expires := v.ExpiresAt.Format(time.RFC3339)
		if v.Deleting {
			expires = "(partly deleted)"
		}
		row := []string{v.Name, v.RemovedAt.Format(time.RFC3339), expires, v.Entry, v.Path, v.Manifest}
		rows = append(rows, row[:len(strings.Fields(headings))])
	}
	return table(a.out, headings, rows)
}

// removed returns the removed containers whose data is kept.
func (a *app) removed() ([]store.RemovedContainer, error) {
	r, err := store.OpenRemoved(a.stateDir)
	if err != nil {
		return nil, err
	}
	return r.List()
}
