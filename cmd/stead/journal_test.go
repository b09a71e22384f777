package main

import (
	"fmt"
	"log/slog"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Log lines for the system's journal have a level and no time of their own.
func TestJournalLines(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	for _, format := range []string{"text", "json"} {
		log := (&app{err: f, logFormat: format}).log(slog.LevelDebug)
		log.Debug("d")
		log.Info("i")
		log.Warn("w level=ERROR")
		log.Error("e")
	}
	b, err := os.ReadFile(f.Name())
	want := `<7>level=DEBUG msg=d
<6>level=INFO msg=i
<4>level=WARN msg="w level=ERROR"
<3>level=ERROR msg=e
<7>{"level":"DEBUG","msg":"d"}
<6>{"level":"INFO","msg":"i"}
<4>{"level":"WARN","msg":"w level=ERROR"}
<3>{"level":"ERROR","msg":"e"}
`
	if err != nil || string(b) != want {
		t.Errorf("%v:\n%s", err, b)
	}
	if isJournal(f, fmt.Sprintf("%d:%d", st.Dev, st.Ino+1)) || isJournal(f, "") {
		t.Error("another file is taken for the journal")
	}
}
