package desired

import (
	"fmt"
	"slices"

	"stead/reconcile/source"
)

// target returns what a drop-in is for: a container's name, or the folder that manifests lie
// in, with a slash at its end; "/" is for all.
func target(f *source.File) string {
	if f.Of != "" {
		return f.Of
	}
	return f.In + "/"
}

// targets returns those of the drop-ins for a container in a file, in the order of merging.
func targets(name, file string) []string {
	all := []string{"/"}
	for _, folder := range source.Folders(file) {
		all = append(all, folder+"/")
	}
	return append(all, name)
}

// writers returns the drop-ins that somebody is still writing, by target.
func writers(fragments []*source.File) map[string]*source.File {
	by := map[string]*source.File{}
	for _, f := range fragments {
		if !f.Waiting.IsZero() {
			by[target(f)] = f
		}
	}
	return by
}

// writer returns a drop-in of a container that somebody is still writing, nil if there is none.
func (d *Declared) writer(name, file string) *source.File {
	if len(d.writers) == 0 {
		return nil
	}
	for _, of := range targets(name, file) {
		if f := d.writers[of]; f != nil {
			return f
		}
	}
	return nil
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
		_, group := d.groups[f.Of]
		known := group || d.wants[f.Of] != nil || d.contested[f.Of] != nil || d.named[f.Of] != nil || elsewhere
		if f.Of != "" && !known {
			d.notes = append(d.notes, fmt.Sprintf("%s: no manifest declares %s: this drop-in changes nothing", f.Path, f.Of))
		}
	}
}

// dropInsOf returns the files that are merged over a container's manifest in a file, in their
// order.
func (d *Declared) dropInsOf(name, file string) (files []string) {
	if len(d.dropIns) == 0 {
		return nil
	}
	for _, of := range targets(name, file) {
		for _, f := range d.dropIns[of] {
			if f.Fragment != nil { // else nobody has read it yet
				files = append(files, f.Path)
			}
		}
	}
	return files
}

// dropInsByTarget sorts drop-ins in the order in which they are merged.
func dropInsByTarget(fragments []*source.File) map[string][]*source.File {
	by := map[string][]*source.File{}
	for _, f := range fragments {
		by[target(f)] = append(by[target(f)], f)
	}
	for _, list := range by {
		slices.SortFunc(list, source.MergeOrder)
	}
	return by
}
