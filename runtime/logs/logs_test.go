package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"stead/runtime/roottest"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// all is what a reader sees, "stream tag text" a record.
func all(t testing.TB, dir string, o Options) []string {
	t.Helper()
	var out []string
	err := Read(context.Background(), dir, o, func(r Record) error {
		tag := "F"
		if r.Part {
			tag = "P"
		}
		out = append(out, r.Stream+" "+tag+" "+r.Text)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

var everything = Options{Tail: -1}

// settled is a Log whose methods return when all is written.
type settled struct{ *Log }

func logOf(s *Set, dir string, size int64, keep int) settled { return settled{s.Log(dir, size, keep)} }

func (l settled) settle() {
	if !l.set.Settle(roottest.Patience) {
		panic("the log is not written")
	}
}

func (l settled) Write(s Stream, data []byte, now time.Time) { l.Log.Write(s, data, now); l.settle() }
func (l settled) Expire(now time.Time)                       { l.Log.Expire(now); l.settle() }
func (l settled) End(now time.Time)                          { l.Log.End(now); l.settle() }

func TestWrite(t *testing.T) {
	long := strings.Repeat("x", 2*maxRecord+10)
	tests := []struct {
		summary string
		write   func(l settled)
		want    []string
	}{
		{"lines", func(l settled) { l.Write(Stdout, []byte("a\n\nb\n"), noon) }, []string{"stdout F a", "stdout F ", "stdout F b"}},
		{"a line in two writes", func(l settled) { l.Write(Stdout, []byte("a"), noon); l.Write(Stdout, []byte("b\n"), noon) }, []string{"stdout F ab"}},
		{"streams don't mix", func(l settled) {
			l.Write(Stdout, []byte("o"), noon)
			l.Write(Stderr, []byte("e\n"), noon)
			l.Write(Stdout, []byte("\n"), noon)
		}, []string{"stderr F e", "stdout F o"}},
		{"a prompt without end is a part after a while", func(l settled) {
			l.Write(Stdout, []byte("name? "), noon)
			l.Expire(noon.Add(Hold / 2))
			l.Expire(noon.Add(Hold))
			l.Write(Stdout, []byte("bob\n"), noon.Add(time.Second))
		}, []string{"stdout P name? ", "stdout F bob"}},
		{"the end ends a line", func(l settled) { l.Write(Stdout, []byte("half"), noon); l.End(noon) }, []string{"stdout F half"}},
		{"long lines are split", func(l settled) { l.Write(Stdout, []byte(long+"\n"), noon) },
			[]string{"stdout P " + long[:maxRecord], "stdout P " + long[:maxRecord], "stdout F " + long[:10]}},
		{"NUL and invalid UTF-8 stay as they are", func(l settled) { l.Write(Stdout, []byte("a\x00b\xff\xfe\n"), noon) }, []string{"stdout F a\x00b\xff\xfe"}},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		var s Set
		l := logOf(&s, dir, 1<<20, 3)
		tt.write(l)
		got := all(t, dir, everything)
		if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
			t.Errorf("%s: got %q, want %q", tt.summary, got, tt.want)
		}
	}
}

func TestRotate(t *testing.T) {
	dir := t.TempDir()
	var s Set
	l := logOf(&s, dir, 100, 3)
	for i := range 40 {
		l.Write(Stdout, fmt.Appendf(nil, "line %02d\n", i), noon)
	}
	if got := rotatedNumbers(dir); len(got) != 3 {
		t.Errorf("rotated files: %v", got)
	}
	got := all(t, dir, everything)
	if len(got) < 6 || got[len(got)-1] != "stdout F line 39" {
		t.Fatalf("got %q", got)
	}
	for i, line := range got { // the newest ones, in order, without a gap
		if want := fmt.Sprintf("stdout F line %02d", 40-len(got)+i); line != want {
			t.Errorf("line %d is %q, want %q", i, line, want)
		}
	}
	if got := all(t, dir, Options{Tail: 5}); strings.Join(got, ",") != "stdout F line 35,stdout F line 36,stdout F line 37,stdout F line 38,stdout F line 39" {
		t.Errorf("tail: %q", got)
	}
	l.Limit(100, 1)
	for range 10 {
		l.Write(Stdout, []byte("more\n"), noon)
	}
	if got := rotatedNumbers(dir); len(got) != 1 {
		t.Errorf("after keep: 1 there are %v", got)
	}
}

func TestSinceAndTail(t *testing.T) {
	dir := t.TempDir()
	var s Set
	l := logOf(&s, dir, 1<<20, 3)
	for i := range 5 {
		l.Write(Stdout, fmt.Appendf(nil, "%d\n", i), noon.Add(time.Duration(i)*time.Second))
	}
	for _, tt := range []struct {
		o    Options
		want string
	}{
		{Options{Tail: -1, Since: noon.Add(3 * time.Second)}, "stdout F 3,stdout F 4"},
		{Options{Tail: -1, Until: noon.Add(2 * time.Second)}, "stdout F 0,stdout F 1"},
		{Options{Tail: 0}, ""},
		{Options{Tail: 1}, "stdout F 4"},
		{Options{Tail: 99}, "stdout F 0,stdout F 1,stdout F 2,stdout F 3,stdout F 4"},
	} {
		if got := strings.Join(all(t, dir, tt.o), ","); got != tt.want {
			t.Errorf("%+v: got %q, want %q", tt.o, got, tt.want)
		}
	}
	if got := all(t, filepath.Join(dir, "none"), everything); len(got) != 0 {
		t.Errorf("a log that does not exist: %q", got)
	}
}

// Every line arrives once and in order while the files are rotated under the reader.
func TestFollowAcrossRotations(t *testing.T) {
	dir := t.TempDir()
	const lines = 2000
	var s Set
	l := logOf(&s, dir, 4000, 100)
	l.Write(Stdout, []byte("line 0\n"), noon)
	next, done := 0, errors.New("done")
	finished := make(chan error)
	first := make(chan struct{})
	go func() {
		finished <- Read(context.Background(), dir, Options{Tail: -1, Follow: true}, func(r Record) error {
			if want := fmt.Sprintf("line %d", next); r.Text != want {
				return fmt.Errorf("got %q, want %q", r.Text, want)
			}
			if next++; next == 1 {
				close(first)
			}
			if next == lines {
				return done
			}
			return nil
		})
	}()
	<-first
	for i := 1; i < lines; i++ {
		l.Write(Stdout, fmt.Appendf(nil, "line %d\n", i), noon)
	}
	select {
	case err := <-finished:
		if err != done {
			t.Error(err)
		}
	case <-time.After(roottest.Patience):
		t.Errorf("stuck at line %d", next)
	}
}

// Somebody empties, removes or replaces the file: the log goes on in a file that readers find, and
// who follows it sees what comes after.
func TestFileThatIsTakenAway(t *testing.T) {
	for what, take := range map[string]func(path string) error{
		"emptied": func(path string) error { return os.Truncate(path, 0) },
		"removed": os.Remove,
		"renamed": func(path string) error { return os.Rename(path, path+".old") },
		"replaced": func(path string) error {
			return errors.Join(os.WriteFile(path+"~", nil, 0o600), os.Rename(path+"~", path))
		},
	} {
		dir := t.TempDir()
		var s Set
		l := logOf(&s, dir, 1<<20, 1)
		l.Write(Stdout, []byte("a long line before\n"), noon)
		ctx, cancel := context.WithTimeout(t.Context(), roottest.Patience)
		defer cancel()
		var got []string
		done := errors.New("done")
		err := Read(ctx, dir, Options{Tail: -1, Follow: true}, func(r Record) error {
			if got = append(got, r.Text); r.Text == "b" {
				return done
			}
			if err := take(filepath.Join(dir, File)); err != nil {
				return err
			}
			l.Write(Stdout, []byte("b\n"), noon)
			return nil
		})
		if want := []string{"a long line before", "b"}; err != done || !slices.Equal(got, want) {
			t.Errorf("%s: %q %v, want %q", what, got, err, want)
		}
		if now := all(t, dir, everything); !slices.Equal(now, []string{"stdout F b"}) {
			t.Errorf("%s: afterwards %q", what, now)
		}
		l.close()
	}
}

// A listing is no snapshot: of files that are put aside meanwhile it may show the
// second and not the first.
func TestFollowingByAnIncompleteListing(t *testing.T) {
	for _, tt := range []struct {
		summary            string
		files              []int // there are; ours is 5
		known              int
		listed             []int
		nextNumber, known2 int
	}{
		{"all shown", []int{4, 5, 6, 7}, 4, []int{4, 5, 6, 7}, 6, 5},
		{"one missing", []int{4, 5, 6, 7}, 4, []int{4, 5, 7}, 6, 5},
		{"ours missing too", []int{4, 5, 6, 7}, 4, []int{4, 7}, 6, 5},
		{"nothing known before", []int{3, 4, 5, 6, 7, 8}, 0, []int{3, 4, 5, 8}, 6, 5},
		{"ours was removed as too old", []int{7, 8}, 4, []int{8}, 7, 4},
		{"none after ours", []int{4, 5}, 4, []int{4, 5}, 0, 5},
		{"ours is not put aside", []int{3, 4}, 4, []int{3, 4}, 0, 4},
	} {
		dir := t.TempDir()
		r := &reader{dir: dir, number: tt.known}
		var err error
		if r.file, err = os.Create(filepath.Join(dir, "ours")); err != nil {
			t.Fatal(err)
		}
		for _, n := range tt.files {
			if n == 5 {
				err = os.Rename(filepath.Join(dir, "ours"), rotatedPath(dir, n))
			} else {
				err = os.WriteFile(rotatedPath(dir, n), nil, 0o600)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if got := r.nextNumber(tt.listed); got != tt.nextNumber || r.number != tt.known2 {
			t.Errorf("%s: %d follows %d, want %d follows %d", tt.summary, got, r.number, tt.nextNumber, tt.known2)
		}
		r.close()
	}
}

// Files that were put aside before there was a current one to open are read too.
func TestNextBeginsWithTheFirst(t *testing.T) {
	dir := t.TempDir()
	var s Set
	l := logOf(&s, dir, 10, 5)
	r := &reader{dir: dir, o: everything}
	var got []string
	r.emit = func(x Record) error { got = append(got, x.Text); return nil }
	if err := r.readExisting(); err != nil {
		t.Fatal(err)
	}
	for i := range 4 { // each fills a file
		l.Write(Stdout, fmt.Appendf(nil, "%d\n", i), noon)
	}
	if err := r.follow(); err != nil {
		t.Fatal(err)
	}
	if r.close(); strings.Join(got, " ") != "0 1 2 3" {
		t.Errorf("got %q", got)
	}
}

func TestFollowEndsWithContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	finished := make(chan error)
	go func() {
		finished <- Read(ctx, t.TempDir(), Options{Follow: true}, func(Record) error { return nil })
	}()
	cancel()
	if err := <-finished; err != nil {
		t.Error(err)
	}
}

// A full disk loses lines, says how many, and never leaves half a record.
func TestFullDisk(t *testing.T) {
	roottest.Need(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=64k"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	var s Set
	l := logOf(&s, filepath.Join(dir, "log"), 1<<20, 3)
	written := 0
	for i := range 400 {
		l.Write(Stdout, fmt.Appendf(nil, "line %d %s\n", i, strings.Repeat("x", 100)), noon)
		if l.Lost().Records == 0 {
			written++
		}
	}
	if l.Lost().Records == 0 {
		t.Fatal("the disk was never full")
	}
	dropped := l.Lost().Records
	os.Remove(ballast)
	l.Write(Stdout, []byte("room again\n"), noon)
	got := all(t, filepath.Join(dir, "log"), everything)
	if len(got) != written+2 {
		t.Errorf("%d records, want %d and two more", len(got), written)
	}
	if want := fmt.Sprintf("stderr F stead: %d lines were dropped here: the disk was full", dropped); got[len(got)-2] != want {
		t.Errorf("got %q, want %q", got[len(got)-2], want)
	}
	if got[len(got)-1] != "stdout F room again" {
		t.Errorf("got %q", got[len(got)-1])
	}
}

// Thousands of logs don't hold thousands of files open.
func TestOpenFilesAreBounded(t *testing.T) {
	dir := t.TempDir()
	var s Set
	for i := range 2 * defaultMaxOpen {
		logOf(&s, filepath.Join(dir, fmt.Sprint(i)), 1<<20, 3).Write(Stdout, []byte("x\n"), noon)
	}
	if s.open.Len() > defaultMaxOpen {
		t.Errorf("%d files are open", s.open.Len())
	}
}

func BenchmarkWrite(b *testing.B) {
	var s Set
	room := make(chan struct{}, 1)
	s.Changed = func() {
		select {
		case room <- struct{}{}:
		default:
		}
	}
	l := s.Log(b.TempDir(), 10<<20, 2)
	chunk := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 640))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		l.Write(Stdout, chunk, noon)
		for l.IsFull(time.Now()) {
			<-room
		}
	}
	s.Settle(roottest.Patience)
}

// A disk that does not answer holds up nobody: its log keeps a bounded amount, then loses lines
// and counts them, and notes that when the disk goes on. Logs elsewhere are written meanwhile.
func TestStalledDisk(t *testing.T) {
	dir := t.TempDir()
	stuck, other := filepath.Join(dir, "stuck"), filepath.Join(dir, "other")
	if err := os.Mkdir(stuck, 0o700); err != nil {
		t.Fatal(err)
	}
	fifo := filepath.Join(stuck, File) // the open waits for a reader
	if err := unix.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	var s Set
	l := s.Log(stuck, 100<<20, 3)
	line := []byte(strings.Repeat("x", 999) + "\n")
	written := 0
	began := time.Now()
	for ; !l.IsFull(time.Now()); written++ {
		l.Write(Stdout, line, noon)
	}
	if n := written * len(line); n > 2*maxQueued {
		t.Errorf("%d bytes are queued", n)
	}
	for l.IsFull(time.Now()) { // until it has stalled
		time.Sleep(10 * time.Millisecond)
	}
	if took := time.Since(began); took < StallAfter || took > 10*StallAfter {
		t.Errorf("stalled after %s", took)
	}
	const lost = 100000
	for range lost {
		l.Write(Stdout, line, noon)
	}
	if got := l.Lost(); got.Records != lost || got.Since.Before(began) || l.queued > 2*maxQueued {
		t.Errorf("lost %+v, want %d; %d bytes are queued", got, lost, l.queued)
	}
	s.Log(other, 1<<20, 3).Write(Stdout, []byte("hello\n"), noon)
	for end := time.Now().Add(roottest.Patience); ; time.Sleep(time.Millisecond) {
		if b, _ := os.ReadFile(filepath.Join(other, File)); strings.HasSuffix(string(b), " hello\n") {
			break
		}
		if time.Now().After(end) {
			t.Fatal("the other log is not written")
		}
	}
	r, err := os.Open(fifo)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var got strings.Builder
	for buf := make([]byte, 1<<20); !strings.Contains(got.String(), "dropped here"); {
		n, err := r.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		got.Write(buf[:n])
	}
	if n, want := strings.Count(got.String(), "xxx\n"), fmt.Sprintf("stead: %d lines were dropped here: the disk did not take them in time\n", lost); n != written || !strings.HasSuffix(got.String(), want) {
		t.Errorf("%d lines, want %d, and at the end %.200q, want %q", n, written, got.String()[max(0, got.Len()-200):], want)
	}
	if !s.Settle(roottest.Patience) || l.Lost() != (Lost{}) {
		t.Errorf("afterwards: lost %+v", l.Lost())
	}
}
