package runtime

import (
	"testing"
	"time"

	"stead/runtime/record"
	"stead/runtime/status"
	"stead/runtime/store"
	"stead/spec"
)

// TestRunStateMovesForward: several readers of one boot record finish in any order.
// The one that read the older state must not put it over the newer one.
func TestRunStateMovesForward(t *testing.T) {
	run := func(nonce string, s record.State) *record.Record {
		return &record.Record{Name: "job", Nonce: nonce, State: s}
	}
	for _, tt := range []struct {
		summary   string
		has, read *record.Record
		want      record.State
	}{
		{summary: "a start is on its way", has: run("1", record.Creating), read: run("1", record.Running), want: record.Running},
		{summary: "it ends", has: run("1", record.Running), read: run("1", record.Exited), want: record.Exited},
		{summary: "it ends before anybody saw it run", has: run("1", record.Creating), read: run("1", record.Exited), want: record.Exited},
		{summary: "a late reader says that it runs", has: run("1", record.Exited), read: run("1", record.Running), want: record.Exited},
		{summary: "a late reader says that it is being created", has: run("1", record.Running), read: run("1", record.Creating), want: record.Running},
		{summary: "a late reader of an earlier run", has: run("2", record.Running), read: run("1", record.Exited), want: record.Running},
	} {
		c := &container{name: "job", rec: tt.has}
		c.advance(tt.read)
		if c.rec.State != tt.want || c.rec.Nonce != tt.has.Nonce {
			t.Errorf("%s: %s of run %s, want %s of run %s", tt.summary, c.rec.State, c.rec.Nonce, tt.want, tt.has.Nonce)
		}
	}
}

// TestCheckReadsRecordsAgain: what memory says of a run is derived again from its
// record and from the kernel on every tick, whatever was not reported or was reported
// wrongly.
func TestCheckReadsRecordsAgain(t *testing.T) {
	for _, tt := range []struct {
		summary  string
		onDisk   bool // the record on disk is as wrong as memory is
		want     string
		wantCode int
	}{
		{summary: "the record says how it ended", want: status.ReasonCompleted},
		{summary: "nobody saw it end: the process is gone", onDisk: true, want: status.ReasonUnknown, wantCode: -1},
	} {
		w := newWorld(t)
		w.create("other", script(forever)) // so that a keeper runs
		w.create("job", script("true")+"\nrestart: {policy: never}")
		w.await("job", status.Exited)
		c, _ := w.find("job")
		w.mu.Lock()
		wrong := *c.rec
		wrong.State, wrong.Ending, wrong.FinishedAt = record.Running, nil, time.Time{}
		c.rec, c.finished = &wrong, ""
		w.mu.Unlock()
		if tt.onDisk {
			if err := wrong.Write(w.o.RunDir); err != nil {
				t.Fatal(err)
			}
		}
		if s, _ := w.Get("job"); s.State != status.Running {
			t.Fatalf("%s: the test's own change has no effect: %s", tt.summary, s.State)
		}
		if err := w.Check(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		if s, _ := w.Get("job"); s.State != status.Exited || s.Exit == nil || s.Exit.Reason != tt.want || s.Exit.Code != tt.wantCode {
			t.Errorf("%s: after a tick it is %s, exit %+v", tt.summary, s.State, s.Exit)
		}
	}
}

// A run of an earlier boot tells how it ended; on this boot the container was never started,
// so that its restarts are counted anew.
func TestRunOfAnEarlierBoot(t *testing.T) {
	for boot, want := range map[string]status.State{"earlier": status.Created, record.BootID(): status.Exited} {
		c := &container{name: "job", facts: &store.Facts{
			Manifest: &spec.Container{}, LastRun: &store.LastRun{BootID: boot, Exit: &status.Exit{Code: 3, Reason: status.ReasonError}},
		}}
		if st := c.status(); st.State != want || st.Exit == nil || st.Exit.Code != 3 || st.Restarts != 0 {
			t.Errorf("boot %s: %+v, want %s with exit code 3", boot, st, want)
		}
	}
}
