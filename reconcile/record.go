package reconcile

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"stead/reconcile/events"
	"stead/runtime/status"
	"stead/runtime/store"
)

// What happened is recorded, for people and for what watches this host: this
// file says what is worth an event.

// record takes note. A journal that can't be written stops nothing; it is said
// once.
func (e *Engine) record(list ...events.Event) {
	if e.Record == nil || len(list) == 0 {
		return
	}
	note := ""
	if err := e.Record(list...); err != nil {
		note = err.Error()
	}
	if said := e.recordNote.Swap(&note); note != "" && (said == nil || *said != note) {
		e.Log.Error("events are lost", "error", note)
	}
}

// recordAction takes note of an action that has ended. One that the daemon's end
// interrupted is taken up by the next; a manifest that moved is no change.
func (e *Engine) recordAction(j *job, now time.Time) {
	if errors.Is(j.err, context.Canceled) || j.Verb == Adopt && j.err == nil {
		return
	}
	event := events.Event{Time: now, Type: events.Done, Container: j.Name, Action: string(j.Verb), Cause: j.Cause, Message: j.note}
	for i, c := range j.Changes {
		if i == toldChanges {
			event.Message = strings.TrimPrefix(fmt.Sprintf("%s; and %d more fields", event.Message, len(j.Changes)-i), "; ")
			break
		}
		event.Changes = append(event.Changes, events.Change{Path: c.Path, Before: c.Before, After: c.After})
	}
	if j.err != nil {
		event.Type, event.Message = events.Failed, j.err.Error()
	}
	e.record(event)
}

// exitNews are the commands that have ended by themselves since the last pass.
// Only the daemon tells: a verb does not know what is told already.
func (e *Engine) exitNews(observed []*status.Status) (list []events.Event) {
	if e.base == nil {
		return nil
	}
	for i := range observed {
		st := observed[i]
		if st.State != status.Exited || st.Exit == nil || st.FinishedAt.IsZero() || st.FinishedAt.Equal(e.exits[st.Name]) {
			continue
		}
		e.exits[st.Name] = st.FinishedAt
		if st.Exit.Reason == status.ReasonStopped || startFailed(st.Exit) {
			continue // its action tells
		}
		code := st.Exit.Code
		list = append(list, events.Event{
			Time: st.FinishedAt, Type: events.Exited, Container: st.Name, ExitCode: &code,
			Reason: st.Exit.Reason, Cause: exitClause(st.Exit), Message: st.Exit.Message,
		})
	}
	if len(e.exits) > 2*len(observed)+64 {
		there := make(map[string]time.Time, len(observed))
		for i := range observed {
			if at, known := e.exits[observed[i].Name]; known {
				there[observed[i].Name] = at
			}
		}
		e.exits = there
	}
	return list
}

// expire deletes what was removed long ago.
func (e *Engine) expire(ctx context.Context) {
	retention := e.retention()
	if retention <= 0 || !e.expiring.TryLock() {
		return
	}
	defer e.expiring.Unlock()
	gone, err := e.Runtime.Expire(ctx, retention)
	for _, entry := range gone {
		e.Log.Info("deleted what was removed long ago", "entry", entry, "retention", retention)
	}
	e.recordDeleted(gone, fmt.Sprintf("removed more than %s ago", retention))
	if err != nil && ctx.Err() == nil {
		e.Log.Error("delete what was removed long ago", "error", err)
	}
}

// Purge deletes for good what was removed under a name, and returns the entries.
// The error wraps ErrNoContainer if there is nothing of that name.
func (e *Engine) Purge(ctx context.Context, name string) ([]string, error) {
	e.init()
	gone, err := e.Runtime.Purge(ctx, name)
	e.recordDeleted(gone, "purged by admin")
	if !errors.Is(err, status.ErrMissing) {
		return gone, err
	}
	if st := find(e.Runtime.List(), name); st != nil {
		return nil, fmt.Errorf("purge %s: nothing was removed by that name, and the container that is there is declared by %s: delete that first", name, ManifestName(st.From))
	}
	return nil, fmt.Errorf("purge %s: nothing was removed by that name: %w", name, ErrNoContainer)
}

func (e *Engine) recordDeleted(entries []string, cause string) {
	now := time.Now()
	for _, entry := range entries {
		e.record(events.Event{Time: now, Type: events.Deleted, Container: store.RemovedName(entry), Message: entry, Cause: cause})
	}
}
