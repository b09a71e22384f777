package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"stead/reconcile/events"
	"stead/runtime/status"
)

// notice is something new, for the log and for the record; either may be empty.
type notice struct {
	level slog.Level
	text  string
	attrs []any
	event events.Event
}

// tell passes on what is new.
func (e *Engine) tell(news []notice) {
	var list []events.Event
	for _, r := range news {
		if r.text != "" {
			e.Log.Log(context.Background(), r.level, r.text, r.attrs...)
		}
		if r.event.Type != "" {
			list = append(list, r.event)
		}
	}
	e.record(list...)
}

// news is what is new since the last pass: errors of files and what is held are
// said once when they appear or change, and once when they are gone.
func (e *Engine) news(d *Desired, p Plan, observed []*status.Status, now time.Time) []notice {
	news := append(e.problemNews(d, now), e.heldNews(p, now)...)
	for _, exit := range e.exitNews(observed) {
		news = append(news, notice{event: exit}) // the log has it as the cause of what follows
	}
	news = append(news, e.noteNews(d)...)
	return append(news, e.waitingNews(d, now)...)
}

// noteNews says what is hardly meant, once.
func (e *Engine) noteNews(d *Desired) (news []notice) {
	for _, note := range d.notes {
		if !slices.Contains(e.notes, note) {
			news = append(news, notice{level: slog.LevelWarn, text: note})
		}
	}
	e.notes = d.notes
	return news
}

func (e *Engine) problemNews(d *Desired, now time.Time) (news []notice) {
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
	for _, file := range sortedKeys(problems) {
		if text := problems[file]; e.problems[file] != text {
			news = append(news, notice{
				slog.LevelError, "manifests can't be followed", []any{"file", file, "error", text},
				events.Event{Time: now, Type: events.Invalid, File: file, Message: text},
			})
		}
	}
	for _, file := range sortedKeys(e.problems) {
		if _, still := problems[file]; !still {
			news = append(news, notice{
				slog.LevelInfo, "manifests are in order again", []any{"file", file},
				events.Event{Time: now, Type: events.Valid, File: file},
			})
		}
	}
	e.problems = problems
	return news
}

func (e *Engine) heldNews(p Plan, now time.Time) (news []notice) {
	held := map[string]string{}
	for _, a := range p.Held {
		held[a.Name] = a.Cause
		if e.held[a.Name] == a.Cause {
			continue
		}
		text := "removal held"
		if a.byAdmin {
			text = "on hold"
		}
		news = append(news, notice{
			slog.LevelWarn, text, []any{"container", a.Name, "action", string(a.held), "cause", a.Cause},
			events.Event{Time: now, Type: events.Held, Container: a.Name, Action: string(a.held), Cause: a.Cause},
		})
	}
	for _, name := range sortedKeys(e.held) {
		if _, still := held[name]; !still {
			news = append(news, notice{
				slog.LevelInfo, "no longer held", []any{"container", name},
				events.Event{Time: now, Type: events.Unheld, Container: name},
			})
		}
	}
	e.held = held
	return news
}

// waitingNews says once of a file that its writer takes long.
func (e *Engine) waitingNews(d *Desired, now time.Time) (news []notice) {
	writing := map[string]bool{}
	for _, f := range slices.Concat(d.waiting, slices.Collect(maps.Values(d.writers))) {
		if now.Sub(f.Waiting) < waitNoted || writing[f.Writer] {
			continue
		}
		writing[f.Writer] = true
		if !e.writing[f.Writer] {
			news = append(news, notice{level: slog.LevelWarn, text: "a manifest is not read while somebody has it open for writing", attrs: []any{"file", f.Writer}})
		}
	}
	e.writing = writing
	return news
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
