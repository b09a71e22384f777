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
	Path      string    `json:"path"`
	Manifest  string    `json:"manifest"` // where it stood; "" if that is not known
}

// psRemoved lists what is kept of removed containers.
func (a *app) psRemoved(names []string, output string) error {
	all, err := a.removed()
	if err != nil {
		return err
	}
	for _, name := range names {
		if !slices.ContainsFunc(all, func(r store.RemovedContainer) bool { return r.Name == name }) {
			return exitWith(exitMissing, "%s: nothing was removed by that name", name)
		}
	}
	views := []removedView{}
	for _, r := range all {
		if len(names) > 0 && !slices.Contains(names, r.Name) {
			continue
		}
		v := removedView{Name: r.Name, Entry: r.Entry, RemovedAt: r.RemovedAt, Path: r.Path, Manifest: plan.ManifestName(r.From), ExpiresAt: r.RemovedAt.Add(a.retention)}
		views = append(views, v)
	}
	if output != "table" && output != "wide" {
		return printList(a.out, views, output, func(v removedView) string { return v.Entry })
	}
	var rows [][]string
	for _, v := range views {
		row := []string{v.Name, v.RemovedAt.Format(time.RFC3339), v.ExpiresAt.Format(time.RFC3339), v.Entry}
		if output == "wide" {
			row = append(row, v.Path, v.Manifest)
		}
		rows = append(rows, row)
	}
	return table(a.out, strings.TrimSpace("NAME REMOVED EXPIRES ENTRY "+map[string]string{"wide": "PATH MANIFEST"}[output]), rows)
}

// removed lists the containers that were removed and not yet deleted.
func (a *app) removed() ([]store.RemovedContainer, error) {
	r, err := store.OpenRemoved(a.stateDir)
	if err != nil {
		return nil, err
	}
	return r.List()
}
