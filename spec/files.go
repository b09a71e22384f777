package spec

import (
	"maps"
	"path"
	"slices"
	"strings"
)

// FilesDir is the directory inside a container in which stead mounts the content of its
// files.
const FilesDir = "/run/stead/files"

// expandFiles expands the references in sources and makes relative sources absolute.
func (e expander) expandFiles(s *Spec) {
	for target, f := range s.Files {
		at := joinPath("spec.files", target)
		e.refuseReferences(at, target)
		if f.Source != "" {
			f.Source = e.expandSource(at+".source", f.Source)
			s.Files[target] = f
		}
	}
	for field, entries := range map[string]map[string]EnvSource{"spec.envFiles": s.EnvFiles, "spec.envSecrets": s.EnvSecrets} {
		for name, one := range entries {
			one.Source = e.expandSource(joinPath(field, name)+".source", one.Source)
			entries[name] = one
		}
	}
}

// expandSource returns the path of a source. A relative one starts at the directory of its
// manifest, as that is named in the search path; one of a drop-in at the directory that holds
// the drop-in's folder.
func (e expander) expandSource(at, source string) string {
	source = e.expandText(at, source)
	if path.IsAbs(source) {
		return source
	}
	n := e.d.NodeOf(at)
	dir := path.Dir(e.d.FileOf(n))
	if e.d.fragmentOf[n] != nil {
		dir = path.Dir(dir)
	}
	return path.Join(dir, source)
}

func (d *decoder) checkFiles(s *Spec) {
	for _, target := range slices.Sorted(maps.Keys(s.Files)) {
		at, f := joinPath("spec.files", target), s.Files[target]
		d.checkFileTarget(at, target, s)
		switch {
		case f.Content != nil && f.Source != "":
			d.errorFor(at, "found content and source, want exactly one of them")
		case f.Content == nil && f.Source == "":
			d.errorFor(at, "found neither content nor source, want exactly one of them")
		case f.Source != "":
			d.checkFileSource(at+".source", f.Source)
		}
		d.checkOwner(at+".owner", f.Owner)
		d.checkMode(at+".mode", f.Mode, false)
		d.checkOnChange(at, f.OnChange, s)
	}
}

// checkOnChange reports a reload of a container that has none.
func (d *decoder) checkOnChange(at, onChange string, s *Spec) {
	if onChange == "reload" && s.Reload == nil {
		d.errorFor(at+".onChange", "found reload, which needs spec.reload: reload: {signal: HUP}, or {exec: [COMMAND]}")
	}
}

func (d *decoder) checkReload(r *Reload) {
	const at = "spec.reload"
	switch {
	case r == nil:
	case r.Signal != "" && r.Exec != nil:
		d.errorFor(at, "found signal and exec, want exactly one of them")
	case r.Signal == "" && r.Exec == nil:
		d.errorFor(at, "found neither signal nor exec, want exactly one of them")
	case r.Signal != "":
		if err := checkSignal(r.Signal); err != nil {
			d.errorFor(at+".signal", "found %s: %s", quote(r.Signal), err)
		}
	case len(r.Exec) == 0 || r.Exec[0] == "":
		d.errorFor(at+".exec", "found no program, want at least the program to run")
	default:
		d.checkWords(at+".exec", r.Exec)
	}
}

func (d *decoder) checkEnvSources(c *Container) {
	for _, e := range c.EnvSources() {
		at := joinPath("spec."+e.Field, e.Name)
		d.checkFileSource(at+".source", e.Source)
		if e.Kind != ForSecret {
			continue
		}
		if err := checkEnvKey(e.Name); err != nil {
			d.errorFor(at, "%s", err)
		}
		if _, both := c.Spec.Env[e.Name]; both {
			d.errorFor(at, "is in env too; want it in one of them")
		}
	}
}

// checkFileSource reports a source that no file has. A relative one is joined to the name of
// its manifest by now, which needs no directory when validate reads it.
func (d *decoder) checkFileSource(at, source string) {
	switch {
	case source == "/":
		d.errorFor(at, "found %s, want a file or a directory of files", quote(source))
	case path.IsAbs(source):
		d.checkPath(at, source)
	case strings.HasPrefix(source, "../"):
		return // of a manifest that was named by a relative path
	}
}

// checkFileTarget reports a path at which a file can't be put.
func (d *decoder) checkFileTarget(at, target string, s *Spec) {
	top, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	switch {
	case target == "/":
		d.errorFor(at, "a file can't replace the root")
	case path.IsAbs(target) && (top == "proc" || top == "sys" || top == "dev"):
		d.errorFor(at, "stead mounts /%s itself; no file can be put there or below", top)
	case target == FilesDir || strings.HasPrefix(target, FilesDir+"/"):
		d.errorFor(at, "%s holds the content of all files; name a path outside of it", FilesDir)
	default:
		d.checkPath(at, target)
	}
	for up := target; up != "/" && path.IsAbs(up); up = path.Dir(up) {
		if _, is := s.Files[up]; is && up != target {
			d.errorFor(at, "lies in files[%s], whose content comes from one place", escape(up, 60))
		}
	}
	for mount := range s.Mounts {
		switch {
		case mount == target:
			d.errorFor(at, "a mount has this target too")
		case strings.HasPrefix(mount, target+"/"):
			d.errorFor(joinPath("spec.mounts", mount), "lies in files[%s]; name another target", escape(target, 60))
		case mount == FilesDir || strings.HasPrefix(mount, FilesDir+"/"):
			d.errorFor(joinPath("spec.mounts", mount), "stead mounts %s itself, for files; name another target", FilesDir)
		}
	}
}
