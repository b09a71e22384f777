package main

import (
	"cmp"
	"fmt"
	"path/filepath"
	"slices"

	"stead/reconcile/source"
	"stead/spec"
)

// validateFor checks drop-ins for one container.
func (a *app) validateFor(c *checked, name string, args []string) error {
	if err := spec.CheckName(name); err != nil {
		return exitWith(exitUsage, "--for %q: %w", name, err)
	}
	if len(args) == 0 {
		return exitWith(exitUsage, "--for %s: want the drop-in's file, or -", name)
	}
	p := &overriding{Parser: c.parser, name: name, found: map[string]overridden{}}
	for _, arg := range args {
		data, err := readManifest(arg, a.in)
		if err != nil {
			return err
		}
		c.files++
		f := spec.ParseFragment(fileName(arg), data)
		c.fail(f.Errors)
		p.given = append(p.given, f)
	}
	if len(c.errors) > 0 {
		return nil
	}
	switch o := p.installed((&source.Source{Dirs: a.manifests, Parser: p}).Read()); {
	case o.after == nil:
		c.notes = append(c.notes, fmt.Sprintf("no manifest declares %s here: checked for its shape alone", name))
	case o.before.Errors != nil:
		c.notes = append(c.notes, fmt.Sprintf("the installed manifest has errors without it (%v): checked for its shape alone", o.before.Errors[0]))
	default:
		c.containers++
		c.fail(o.after.Errors)
	}
	return nil
}

// overriding parses the manifests of a container with drop-ins that are not
// installed. Of those that are, the container's own of the same file names are
// left out, as these take their place, and so are broken ones.
type overriding struct {
	spec.Parser
	name  string
	given []*spec.Fragment
	found map[string]overridden // by file
}

// overridden is a manifest before and after merging the given drop-ins; nil for none.
type overridden struct{ before, after *spec.Document }

// installed is what the container's manifest came to: of the file that counts, and
// rather for this host than for another.
func (o *overriding) installed(r *source.Reading) (best overridden) {
	for _, f := range r.Files {
		if d := o.found[f.Path]; d.after != nil && (best.after == nil || best.after.Elsewhere && !d.after.Elsewhere) {
			best = d
		}
	}
	return best
}

func (o *overriding) ParseWith(file string, data []byte, fragments func(string) []*spec.Fragment) []spec.Document {
	installed := slices.DeleteFunc(slices.Clone(fragments(o.name)), func(f *spec.Fragment) bool {
		return f.Errors != nil || o.own(f) && slices.ContainsFunc(o.given, func(g *spec.Fragment) bool { return filepath.Base(g.File) == filepath.Base(f.File) })
	})
	with := slices.Concat(installed, o.given)
	slices.SortStableFunc(with, func(f, g *spec.Fragment) int {
		last, name := o.rank(f)
		gLast, gName := o.rank(g)
		return cmp.Or(cmp.Compare(last, gLast), cmp.Compare(name, gName))
	})
	parse := func(over []*spec.Fragment) []spec.Document {
		return o.Parser.ParseWith(file, data, func(string) []*spec.Fragment { return over })
	}
	docs := parse(installed)
	for i := range docs {
		if docs[i].Name != o.name || o.found[file].after != nil && !o.found[file].before.Elsewhere {
			continue
		}
		o.found[file] = overridden{&docs[i], &parse(with)[i]}
	}
	return docs
}

// own tells an installed drop-in for this container from one for all.
func (o *overriding) own(f *spec.Fragment) bool {
	of, _ := source.DropInFor(filepath.Base(filepath.Dir(f.File)))
	return of == o.name
}

// rank is where a drop-in is merged: those for all first, then the container's own
// by their names. One that is given under a name that is not read (Ansible's
// "source") will get another, and counts as the last.
func (o *overriding) rank(f *spec.Fragment) (group int, name string) {
	name = filepath.Base(f.File)
	switch {
	case slices.Contains(o.given, f) && !source.Reads(name):
		return 2, ""
	case slices.Contains(o.given, f) || o.own(f):
		return 1, name
	}
	return 0, name
}
