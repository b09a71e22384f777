package main

import (
	"testing"
	"time"

	"stead/reconcile/events"
)

func TestEventLines(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 15, 0, 0, time.UTC)
	code := 3
	for _, test := range []struct {
		event events.Event
		want  string
	}{
		{
			events.Event{Type: events.Done, Container: "web", Action: "update", Cause: "live", Changes: []events.Change{{Path: "a", After: "1"}, {Path: "b", Before: "2"}}},
			"update web  a (absent) → 1, b 2 → (absent)  (live)",
		},
		{events.Event{Type: events.Failed, Container: "web", Action: "start", Cause: "c", Message: "m"}, "start failed web  (c): m"},
		{events.Event{Type: events.Invalid, File: "/etc/a.yaml", Message: "/etc/a.yaml:11:3: spec.x: unknown field"}, "invalid: /etc/a.yaml:11:3: spec.x: unknown field"},
		{events.Event{Type: events.Exited, Container: "web", Cause: "exit code 3", ExitCode: &code, Message: "exit code 3"}, "exited web  (exit code 3)"},
		{events.Event{Type: events.Invalid, File: "/m/a.yaml", Message: "bad\a"}, `invalid /m/a.yaml: bad\x07`},
		{events.Event{Type: events.Held, Cause: "put on hold by admin", Message: "why"}, "held this host  (put on hold by admin): why"},
		{events.Event{Type: events.Started, Message: "up"}, "started: up"},
	} {
		test.event.Time = at
		if got, want := eventLine(test.event), "2026-11-23T04:15:00Z  "+test.want; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
