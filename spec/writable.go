package spec

import (
	"maps"
	"slices"
)

// WritablePath is a path of the host that a container can write: the root of the
// container or the source of one of its mounts.
type WritablePath struct {
	Path  string // on the host
	Place Error  // the position in the manifest, without a message
}

// writablePaths returns the writable paths of a valid manifest.
func (d *decoder) writablePaths(s *Spec) (paths []WritablePath) {
	add := func(path, field string) {
		n := d.NodeOf(field)
		paths = append(paths, WritablePath{path, Error{File: d.FileOf(n), Line: n.Line, Column: n.Column, Path: field}})
	}
	if s.Rootfs.Path != "" && !s.Rootfs.ReadOnly {
		add(s.Rootfs.Path, "spec.rootfs.path")
	}
	for _, target := range slices.Sorted(maps.Keys(s.Mounts)) {
		if m := s.Mounts[target]; m.Source != "" && !m.ReadOnly {
			add(m.Source, joinPath("spec.mounts", target)+".source")
		}
	}
	return paths
}
