// Package doctor says what this kernel and host can and can't do for
// containers, and for each thing that is lacking what to do about it. It tries
// things for real where that is cheap and leaves nothing behind; it changes
// nothing.
package doctor

import "path/filepath"

// Level is how grave a finding is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // something does not work; containers that don't need it run
	Missing Level = "missing" // without it no container runs
)

// Check is one finding.
type Check struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do about it; "" if nothing is lacking
}

// Options say whose host it is.
type Options struct {
	StateDir     string
	CgroupParent string
	Manifests    []string
}

// Host is what the checks look at: the real one, or a tree that a test made.
type host struct {
	Options
	root string // "" or the test's tree: stands before /proc and /sys
	uid  int
}

func (h *host) path(p string) string { return filepath.Join("/", h.root, p) }

// Run makes all checks.
func Run(o Options, uid int) []Check {
	h := &host{Options: o, uid: uid}
	var all []Check
	for _, check := range []func() []Check{
		h.user, h.kernel, h.calls, h.cgroups, h.userNamespaces, h.seccomp, h.visible,
		h.fileSystem, h.hostRoot, h.overlay, h.files, h.hardLimits, h.processes, h.watches,
	} {
		all = append(all, check()...)
	}
	return all
}

// Fit tells whether containers can run.
func Fit(checks []Check) bool {
	for _, c := range checks {
		if c.Level == Missing {
			return false
		}
	}
	return true
}

func single(name string, level Level, found, advice string) []Check {
	if level == OK {
		advice = ""
	}
	return []Check{{name, level, found, advice}}
}

func levelIf(fine bool, otherwise Level) Level {
	if fine {
		return OK
	}
	return otherwise
}
