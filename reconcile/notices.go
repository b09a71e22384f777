package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/plan"
	"stead/reconcile/view"
	"stead/runtime/status"
)

// notices logs and records what is new since the last pass, each thing once. The lock of
// passes guards it.
type notices struct {
	log     *slog.Logger
	journal *journal

	problems map[string]string    // logged errors, by file
	held     map[string]string    // logged causes of held actions, by container
	writing  map[string]bool      // logged files that another process has open for writing
	notes    []string             // logged notes on the manifests
	exits    map[string]time.Time // recorded ends of commands, by container
	ooms     map[string]oomCount  // recorded kills in running containers; nil before the first pass
}

// oomCount is how many processes of one run were killed for lack of memory.
type oomCount struct {
	run   time.Time // when it started
	kills int64
}

// notice is something new, for the log and for the journal; either may be empty.
type notice struct {
	level slog.Level
	text  string
	attrs []any
	event events.Event
}

func newNotices(log *slog.Logger, j *journal, exits map[string]time.Time) *notices {
	n := &notices{log: log, journal: j, problems: map[string]string{}, held: map[string]string{}, exits: map[string]time.Time{}}
	maps.Copy(n.exits, exits)
	return n
}

// report logs and records what is new. Exits are recorded by a daemon only: a verb does not
// know which are recorded already.
func (n *notices) report(d *plan.Desired, p plan.Plan, observed []*status.Status, daemon bool, now time.Time) {
	list := append(n.newProblems(d, now), n.newHeld(p, now)...)
	if daemon {
		list = append(list, n.newExits(observed)...)
		list = append(list, n.newOOMs(observed, now)...)
	}
	list = append(list, n.newNotes(d)...)
	list = append(list, n.newWriters(d, now)...)
	var record []events.Event
	for _, one := range list {
		if one.text != "" {
			n.log.Log(context.Background(), one.level, one.text, one.attrs...)
		}
		if one.event.Type != "" {
			record = append(record, one.event)
		}
	}
	n.journal.record(record...)
}

// newNotes returns new notes on the manifests.
func (n *notices) newNotes(d *plan.Desired) (list []notice) {
	for _, note := range d.Notes {
		if !slices.Contains(n.notes, note) {
			list = append(list, notice{level: slog.LevelWarn, text: note})
		}
	}
	n.notes = d.Notes
	return list
}

// newProblems returns errors of files that appeared, changed or are gone.
func (n *notices) newProblems(d *plan.Desired, now time.Time) (list []notice) {
	problems := map[string]string{}
	for _, dir := range d.Dirs {
		if dir.Matters {
			problems[dir.Path] = dir.Err.Error()
		}
	}
	for _, f := range d.Broken {
		for _, err := range f.Errs {
			problems[f.File] = strings.TrimPrefix(problems[f.File]+"; "+err.Error(), "; ")
		}
	}
	for _, file := range slices.Sorted(maps.Keys(problems)) {
		if text := problems[file]; n.problems[file] != text {
			list = append(list, notice{
				slog.LevelError, "cannot read manifests; keeping what was applied last", []any{"file", file, "error", text},
				events.Event{Time: now, Type: events.Invalid, File: file, Message: text},
			})
		}
	}
	for _, file := range slices.Sorted(maps.Keys(n.problems)) {
		if _, still := problems[file]; !still {
			list = append(list, notice{
				slog.LevelInfo, "manifests are valid again", []any{"file", file},
				events.Event{Time: now, Type: events.Valid, File: file},
			})
		}
	}
	n.problems = problems
	return list
}

// newHeld returns which actions are newly held, and which no longer are.
func (n *notices) newHeld(p plan.Plan, now time.Time) (list []notice) {
	held := map[string]string{}
	for _, a := range p.Held {
		held[a.Name] = a.Cause
		if n.held[a.Name] == a.Cause {
			continue
		}
		text := "removal held"
		switch {
		case a.OnHold:
			text = "on hold"
		case a.Waiting == plan.Restart:
			text = "change of the image held"
		}
		list = append(list, notice{
			slog.LevelWarn, text, []any{"container", a.Name, "action", string(a.Waiting), "cause", a.Cause},
			events.Event{Time: now, Type: events.Held, Container: a.Name, Action: string(a.Waiting), Cause: a.Cause},
		})
	}
	for _, name := range slices.Sorted(maps.Keys(n.held)) {
		if _, still := held[name]; !still {
			list = append(list, notice{
				slog.LevelInfo, "no longer held", []any{"container", name},
				events.Event{Time: now, Type: events.Unheld, Container: name},
			})
		}
	}
	n.held = held
	return list
}

// newWriters returns files that another process has had open for writing for long.
func (n *notices) newWriters(d *plan.Desired, now time.Time) (list []notice) {
	writing := map[string]bool{}
	for _, f := range d.Writing {
		if now.Sub(f.Since) < view.WriterNoted || writing[f.Writer] {
			continue
		}
		writing[f.Writer] = true
		if !n.writing[f.Writer] {
			list = append(list, notice{level: slog.LevelWarn, text: "manifest not read yet: another process has it open for writing", attrs: []any{"file", f.Writer}})
		}
	}
	n.writing = writing
	return list
}

// newExits returns which commands have ended by themselves, for the journal. The log names an
// exit as the cause of the action that follows.
func (n *notices) newExits(observed []*status.Status) (list []notice) {
	for _, st := range observed {
		if st.State != status.Exited || st.Exit == nil || st.FinishedAt.IsZero() || st.FinishedAt.Equal(n.exits[st.Name]) {
			continue
		}
		n.exits[st.Name] = st.FinishedAt
		if st.Exit.Reason == status.ReasonStopped || plan.StartFailed(st.Exit) {
			continue // the action is recorded
		}
		code := st.Exit.Code
		list = append(list, notice{event: events.Event{
			Time: st.FinishedAt, Type: events.Exited, Container: st.Name, ExitCode: &code,
			Reason: st.Exit.Reason, Cause: plan.ExitClause(st.Exit), Message: st.Exit.Message,
		}})
	}
	if len(n.exits) > 2*len(observed)+64 { // of containers that are gone
		maps.DeleteFunc(n.exits, func(name string, _ time.Time) bool { return plan.Find(observed, name) == nil })
	}
	return list
}

// newOOMs returns in which running containers the kernel has killed processes for lack of memory.
// The first pass records none: an earlier daemon has recorded them.
func (n *notices) newOOMs(observed []*status.Status, now time.Time) (list []notice) {
	ooms := map[string]oomCount{}
	for _, st := range observed {
		if st.OOMKills == 0 {
			continue
		}
		ooms[st.Name] = oomCount{st.StartedAt, st.OOMKills}
		if last := n.ooms[st.Name]; n.ooms == nil || last.run.Equal(st.StartedAt) && last.kills >= st.OOMKills {
			continue
		}
		clause := plan.OOMClause(st)
		list = append(list, notice{
			slog.LevelWarn, "killed for lack of memory", []any{"container", st.Name, "cause", clause},
			events.Event{Time: now, Type: events.OOM, Container: st.Name, Cause: clause},
		})
	}
	n.ooms = ooms
	return list
}
