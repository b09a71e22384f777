package keeper

import (
	"errors"
	"os"
	"testing"

	"stead/runtime/record"
)

// runOfWeb is a run directory in which web has a run.
func runOfWeb(t *testing.T) string {
	t.Helper()
	run := t.TempDir()
	if err := record.MakeDirs(run); err != nil {
		t.Fatal(err)
	}
	if err := (&record.Record{Name: "web", Nonce: "1"}).Point(run); err != nil {
		t.Fatal(err)
	}
	return run
}

// A keeper of an older program knows no prepared exec: what it says is no answer.
func TestOlderKeeper(t *testing.T) {
	run := runOfWeb(t)
	k := Client{Run: run}
	if _, err := k.ExecPrepared("web", Command{Argv: []string{"true"}}, []*os.File{os.Stdin}); !errors.Is(err, ErrNotPrepared) {
		t.Errorf("without a keeper: %v", err)
	}
	l, err := listen(run)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, answer := range []reply{{Error: `unknown request "exec-prepared"`}, {Error: "exec in web.1: not held", Missing: true}, {Error: "execute true: no such file", Where: "command"}} {
		go func() {
			c, err := l.AcceptUnix()
			if err != nil {
				return
			}
			defer c.Close()
			var q request
			if fds, err := (conn{c}).receive(&q); err == nil {
				closeAll(fds)
				conn{c}.send(answer)
			}
		}()
		_, err := k.ExecPrepared("web", Command{Argv: []string{"true"}}, []*os.File{os.Stdin})
		var launched *StartError
		if unprepared := errors.Is(err, ErrNotPrepared); unprepared == errors.As(err, &launched) || unprepared != (answer.Where == "") {
			t.Errorf("after %+v: %v", answer, err)
		}
	}
}

// A keeper that dies after it was asked may have run the command: it is not asked
// for a second time.
func TestUnansweredIsNotUnprepared(t *testing.T) {
	run := runOfWeb(t)
	l, err := listen(run)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		c, err := l.AcceptUnix()
		if err != nil {
			return
		}
		var q request
		if fds, err := (conn{c}).receive(&q); err == nil {
			closeAll(fds)
		}
		c.Close()
	}()
	_, err = Client{Run: run}.ExecPrepared("web", Command{Argv: []string{"true"}}, []*os.File{os.Stdin})
	if err == nil || errors.Is(err, ErrNotPrepared) || !errors.Is(err, ErrNoKeeper) {
		t.Errorf("after a death without an answer: %v", err)
	}
}
