package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"stead/reconcile/events"
	"stead/reconcile/plan"
	"stead/runtime/status"
)

// journal records events, for people and for monitoring.
type journal struct {
	log    *slog.Logger
	write  func(...events.Event) error // nil records nothing
	logged atomic.Pointer[string]      // the last error
}

// record writes events. A journal that can't be written stops nothing; the error is logged once.
func (j *journal) record(list ...events.Event) {
	if j.write == nil || len(list) == 0 {
		return
	}
	note := ""
	if err := j.write(list...); err != nil {
		note = err.Error()
	}
	if logged := j.logged.Swap(&note); note != "" && (logged == nil || *logged != note) {
		j.log.Error("cannot write the event journal", "error", note)
	}
}

// action records an action that has ended. It leaves out an action that shutdown interrupted,
// which the next daemon retries, and the note of a manifest that moved.
func (j *journal) action(done *job, now time.Time) {
	if errors.Is(done.err, context.Canceled) || done.Verb == plan.Adopt && done.err == nil {
		return
	}
	event := events.Event{Time: now, Type: events.Done, Action: string(done.Verb), Cause: done.Cause, Message: done.note}
	if done.Kind == plan.Image {
		event.Image = done.Name
	} else {
		event.Container = done.Name
	}
	for i, c := range done.Changes {
		if i == plan.MaxChanges {
			event.Message = strings.TrimPrefix(fmt.Sprintf("%s; and %d more fields", event.Message, len(done.Changes)-i), "; ")
			break
		}
		event.Changes = append(event.Changes, events.Change{Path: c.Path, Before: c.Before, After: c.After})
	}
	if done.err != nil {
		event.Type, event.Message = events.Failed, done.err.Error()
	}
	j.record(event)
}

// deleted records data that was deleted.
func (j *journal) deleted(entries []string, cause string) {
	now := time.Now()
	for _, entry := range entries {
		name, _, _ := strings.Cut(entry, "@")
		j.record(events.Event{Time: now, Type: events.Deleted, Container: name, Message: entry, Cause: cause})
	}
}

// Purge deletes the data of removed containers of a name, and returns the deleted entries. If
// there is none, the error wraps ErrNoContainer.
func (e *Engine) Purge(ctx context.Context, name string) ([]string, error) {
	e.init()
	gone, err := e.Removed.Purge(ctx, name)
	e.journal.deleted(gone, "purged by admin")
	if !errors.Is(err, status.ErrMissing) {
		return gone, err
	}
	if st := plan.Find(e.Observer.List(), name); st != nil {
		return nil, fmt.Errorf("purge %s: nothing was removed by that name, and the container that is there is declared by %s: delete that first", name, plan.ManifestName(st.From))
	}
	return nil, fmt.Errorf("purge %s: nothing was removed by that name: %w", name, ErrNoContainer)
}
