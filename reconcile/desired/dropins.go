package desired

import (
	"fmt"
	"slices"

	"stead/reconcile/source"
)

// writers returns the drop-ins that somebody is still writing, by container.
func writers(fragments []*source.File) map[string]*source.File {
	by := map[string]*source.File{}
	for _, f := range fragments {
		if !f.Waiting.IsZero() {
			by[f.Of] = f
		}
	}
	return by
}

// writer returns a drop-in of a container that somebody is still writing, nil if there is none.
func (d *Declared) writer(name string) *source.File {
	if f := d.writers[name]; f != nil {
		return f
	}
	return d.writers[""]
}

// noteDropIns notes which drop-ins change nothing, as no manifest has the name. Where a
// manifest can't be read, it may be the one.
func (d *Declared) noteDropIns() {
	if len(d.broken)+len(d.waiting) > 0 {
		return
	}
	for _, c := range d.invalid {
		if c.doc.Name == "" {
			return
		}
	}
	for _, f := range d.Reading.Fragments {
		_, elsewhere := d.elsewhere[f.Of]
		known := d.wants[f.Of] != nil || d.contested[f.Of] != nil || d.named[f.Of] != nil || elsewhere
		if f.Of != "" && !known {
			d.Notes = append(d.Notes, fmt.Sprintf("%s: no manifest declares %s: this drop-in changes nothing", f.Path, f.Of))
		}
	}
}

// dropInsOf returns the files that are merged over a container's manifest, in their order.
func (d *Declared) dropInsOf(name string) (files []string) {
	if len(d.dropIns) == 0 {
		return nil
	}
	for _, of := range []string{"", name} {
		for _, f := range d.dropIns[of] {
			if f.Fragment != nil { // else nobody has read it yet
				files = append(files, f.Path)
			}
		}
	}
	return files
}

// dropInsByName sorts drop-ins by their container, "" for all, in the order in which they
// are merged.
func dropInsByName(fragments []*source.File) map[string][]*source.File {
	by := map[string][]*source.File{}
	for _, f := range fragments {
		by[f.Of] = append(by[f.Of], f)
	}
	for _, list := range by {
		slices.SortFunc(list, source.MergeOrder)
	}
	return by
}
