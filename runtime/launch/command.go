package launch

import (
	"slices"
	"strings"
)

// DefaultPath is the PATH of commands whose environment has none.
const DefaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// With returns a copy of the process with another command, more environment and, unless dir
// is empty, another working directory.
func (p Process) With(argv, env []string, dir string) Process {
	p.Argv, p.Env = argv, override(p.Env, env)
	p.Paths = Candidates(argv[0], p.Env)
	if dir != "" {
		p.WorkingDir = dir
	}
	return p
}

// override adds variables to env; a later one replaces an earlier one of the same name.
func override(env, more []string) []string {
	key := func(e string) string { k, _, _ := strings.Cut(e, "="); return k }
	for _, e := range more {
		env = slices.DeleteFunc(env, func(old string) bool { return key(old) == key(e) })
		env = append(env, e)
	}
	return env
}

// Candidates returns the paths that execvp(3) would try.
func Candidates(command string, env []string) []string {
	if strings.Contains(command, "/") {
		return []string{command}
	}
	path := DefaultPath
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	var all []string
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		all = append(all, strings.TrimSuffix(dir, "/")+"/"+command)
	}
	return all
}
