package spec

import (
	"maps"
	"slices"
)

// SourceKind says what a source is for.
type SourceKind int

const (
	ForFile   SourceKind = iota // spec.files
	ForEnv                      // spec.envFiles
	ForSecret                   // spec.envSecrets
)

// Source is a file or directory of the host that a manifest names for its content.
type Source struct {
	Container string
	Field     string // as in spec.files[/etc/app.conf]
	Target    string // the path inside, or as in envFiles.app
	Kind      SourceKind
	Path      string // on the host
	Place     Error  // the position in the manifest, without a message
	OnChange  string // what a change does to a running container: restart, reload or none
	WithModes bool   // the permissions of the source count

	// Sum identifies the content, "" if nobody has looked at it; Dir is set for a directory.
	// They are not of the manifest: who reads the source sets them.
	Sum string
	Dir bool
}

// sources returns the sources of a valid manifest.
func (d *decoder) sources(c *Container) (all []Source) {
	add := func(src Source) {
		n := d.NodeOf(src.Field + ".source")
		src.Container = c.Metadata.Name
		src.Place = Error{File: d.FileOf(n), Line: n.Line, Column: n.Column, Path: src.Field + ".source"}
		all = append(all, src)
	}
	for _, target := range slices.Sorted(maps.Keys(c.Spec.Files)) {
		if f := c.Spec.Files[target]; f.Source != "" {
			add(Source{Field: joinPath("spec.files", target), Target: target, Path: f.Source, OnChange: f.OnChange, WithModes: f.Mode == ""})
		}
	}
	for _, e := range c.EnvSources() {
		add(Source{Field: joinPath("spec."+e.Field, e.Name), Target: e.Target(), Kind: e.Kind, Path: e.Source, OnChange: e.OnChange})
	}
	return all
}

// EnvSourceOf is a source of variables, and its place in the manifest.
type EnvSourceOf struct {
	EnvSource
	Kind  SourceKind
	Field string // envFiles or envSecrets
	Name  string
}

// Target returns what the source is for, as in envFiles.app.
func (e *EnvSourceOf) Target() string { return e.Field + "." + e.Name }

// EnvSources returns the sources of variables in the order in which they are read.
func (c *Container) EnvSources() (all []EnvSourceOf) {
	for _, name := range slices.Sorted(maps.Keys(c.Spec.EnvFiles)) {
		all = append(all, EnvSourceOf{c.Spec.EnvFiles[name], ForEnv, "envFiles", name})
	}
	for _, name := range slices.Sorted(maps.Keys(c.Spec.EnvSecrets)) {
		all = append(all, EnvSourceOf{c.Spec.EnvSecrets[name], ForSecret, "envSecrets", name})
	}
	return all
}

// SourcePaths returns the paths of all sources of a container.
func (c *Container) SourcePaths() (paths []string) {
	for _, f := range c.Spec.Files {
		if f.Source != "" {
			paths = append(paths, f.Source)
		}
	}
	for _, e := range c.EnvSources() {
		paths = append(paths, e.Source)
	}
	return paths
}
