package reconcile

import (
	"fmt"
	"strings"
	"time"
)

// news are the log lines for what is new since the last pass: errors of files and
// held removals are said once when they appear or change, and once when they are
// gone.
func (e *Engine) news(d *Desired, p Plan, now time.Time) []func() {
	notes := e.waitingNews(d, now)
	problems := map[string]string{}
	for i, dir := range d.Reading.Dirs {
		if d.missed[i] {
			problems[dir.Path] = dir.Err.Error()
		}
	}
	for _, f := range d.Broken() {
		for _, err := range f.Errs {
			problems[f.File] = strings.TrimPrefix(problems[f.File]+"; "+err.Error(), "; ")
		}
	}
	for file, text := range problems {
		if e.problems[file] != text {
			notes = append(notes, func() { e.Log.Error("manifests can't be followed", "file", file, "error", text) })
		}
	}
	for file := range e.problems {
		if _, still := problems[file]; !still {
			notes = append(notes, func() { e.Log.Info("manifests are in order again", "file", file) })
		}
	}
	held := map[string]string{}
	for _, a := range p.Held {
		held[a.Name] = a.Cause
		if e.held[a.Name] != a.Cause {
			notes = append(notes, func() { e.Log.Warn("removal held", "container", a.Name, "action", string(Hold), "cause", a.Cause) })
		}
	}
	for name := range e.held {
		if _, still := held[name]; !still {
			notes = append(notes, func() { e.Log.Info("removal no longer held", "container", name) })
		}
	}
	e.problems, e.held = problems, held
	return notes
}

// waitingNews says once of a file that its writer takes long.
func (e *Engine) waitingNews(d *Desired, now time.Time) []func() {
	var notes []func()
	writing := map[string]bool{}
	for _, f := range d.waiting {
		if now.Sub(f.Waiting) < waitNoted {
			continue
		}
		writing[f.Path] = true
		if !e.writing[f.Path] {
			notes = append(notes, func() { e.Log.Warn("a manifest is not read while somebody has it open for writing", "file", f.Path) })
		}
	}
	e.writing = writing
	return notes
}

// errorLines lists what is wrong with the manifests, a line each.
func (d *Desired) errorLines() []string {
	var lines []string
	for i, dir := range d.Reading.Dirs {
		if d.missed[i] {
			lines = append(lines, fmt.Sprintf("%s: %v", dir.Path, dir.Err))
		}
	}
	for _, f := range d.Broken() {
		for _, err := range f.Errs {
			lines = append(lines, err.Error())
		}
	}
	return lines
}
