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

func TestWrite(t *testing.T) {
	long := strings.Repeat("x", 2*maxRecord+10)
	tests := []struct {
		summary string
		write   func(l *Log)
		want    []string
	}{
		{"lines", func(l *Log) { l.Write(Stdout, []byte("a\n\nb\n"), noon) }, []string{"stdout F a", "stdout F ", "stdout F b"}},
		{"a line in two writes", func(l *Log) { l.Write(Stdout, []byte("a"), noon); l.Write(Stdout, []byte("b\n"), noon) }, []string{"stdout F ab"}},
		{"streams don't mix", func(l *Log) {
			l.Write(Stdout, []byte("o"), noon)
			l.Write(Stderr, []byte("e\n"), noon)
			l.Write(Stdout, []byte("\n"), noon)
		}, []string{"stderr F e", "stdout F o"}},
		{"a prompt without end is a part after a while", func(l *Log) {
			l.Write(Stdout, []byte("name? "), noon)
			l.Expire(noon.Add(Hold / 2))
			l.Expire(noon.Add(Hold))
			l.Write(Stdout, []byte("bob\n"), noon.Add(time.Second))
		}, []string{"stdout P name? ", "stdout F bob"}},
		{"the end ends a line", func(l *Log) { l.Write(Stdout, []byte("half"), noon); l.End(noon) }, []string{"stdout F half"}},
		{"long lines are split", func(l *Log) { l.Write(Stdout, []byte(long+"\n"), noon) },
			[]string{"stdout P " + long[:maxRecord], "stdout P " + long[:maxRecord], "stdout F " + long[:10]}},
		{"NUL and invalid UTF-8 stay as they are", func(l *Log) { l.Write(Stdout, []byte("a\x00b\xff\xfe\n"), noon) }, []string{"stdout F a\x00b\xff\xfe"}},
	}
	for _, tt := range tests {
		dir := t.TempDir()
		var s Set
		l := s.Log(dir, 1<<20, 3)
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
	l := s.Log(dir, 100, 3)
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
	l := s.Log(dir, 1<<20, 3)
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
	l := s.Log(dir, 4000, 100)
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

// Somebody empties the file: who follows it sees what comes after.
func TestFollowOfAnEmptiedFile(t *testing.T) {
	dir := t.TempDir()
	var s Set
	l := s.Log(dir, 1<<20, 1)
	l.Write(Stdout, []byte("a long line before\n"), noon)
	ctx, cancel := context.WithTimeout(t.Context(), roottest.Patience)
	defer cancel()
	var got []string
	done := errors.New("done")
	err := Read(ctx, dir, Options{Tail: -1, Follow: true}, func(r Record) error {
		if got = append(got, r.Text); r.Text == "b" {
			return done
		}
		if err := os.Truncate(filepath.Join(dir, File), 0); err != nil {
			return err
		}
		l.Write(Stdout, []byte("b\n"), noon)
		return nil
	})
	if want := []string{"a long line before", "b"}; err != done || !slices.Equal(got, want) {
		t.Errorf("%q %v, want %q", got, err, want)
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
	l := s.Log(dir, 10, 5)
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
	l := s.Log(filepath.Join(dir, "log"), 1<<20, 3)
	written := 0
	for i := range 400 {
		l.Write(Stdout, fmt.Appendf(nil, "line %d %s\n", i, strings.Repeat("x", 100)), noon)
		if l.dropped == 0 {
			written++
		}
	}
	if l.dropped == 0 {
		t.Fatal("the disk was never full")
	}
	dropped := l.dropped
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
		s.Log(filepath.Join(dir, fmt.Sprint(i)), 1<<20, 3).Write(Stdout, []byte("x\n"), noon)
	}
	if s.open.Len() > defaultMaxOpen {
		t.Errorf("%d files are open", s.open.Len())
	}
}

func BenchmarkWrite(b *testing.B) {
	var s Set
	l := s.Log(b.TempDir(), 10<<20, 2)
	chunk := []byte(strings.Repeat(strings.Repeat("x", 99)+"\n", 640))
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		l.Write(Stdout, chunk, noon)
	}
}
