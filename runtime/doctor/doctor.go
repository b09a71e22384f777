// Package doctor checks what this kernel and host support for containers, and advises what to
// do about everything that is missing. Where it is cheap, it tries a feature. It changes
// nothing and leaves nothing behind.
package doctor

import "path/filepath"

// Level is how serious a finding is.
type Level string

const (
	OK      Level = "ok"
	Warning Level = "warning" // a feature does not work; containers without it run
	Missing Level = "missing" // no container runs without the feature
)

// Check is the result of one check.
type Check struct {
	Name   string `json:"name"`
	Level  Level  `json:"level"`
	Found  string `json:"found"`
	Advice string `json:"advice,omitempty"` // what to do; "" if nothing is missing
}

// Options names the directories and the cgroup that the checks use.
type Options struct {
	StateDir     string
	CgroupParent string
	Manifests    []string
}

// host is what the checks examine: the real host, or a directory tree of a test.
type host struct {
	Options
	root string // "", or the tree of a test that replaces /proc and /sys
	uid  int
}

func (h *host) path(p string) string { return filepath.Join("/", h.root, p) }

// Run runs all checks.
func Run(o Options, uid int) []Check {
	h := &host{Options: o, uid: uid}
	var all []Check
	for _, check := range []func() []Check{
		h.user, h.kernel, h.calls, h.cgroups, h.userNamespaces, h.seccomp, h.visible,
		h.rootMount, h.devices, h.fileSystem, h.hostRoot, h.overlay, h.files, h.hardLimits, h.processes, h.watches,
	} {
		all = append(all, check()...)
	}
	return all
}

// Fit reports whether containers can run.
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
