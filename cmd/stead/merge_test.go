package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"stead/runtime/logs"

	"stead/runtime/roottest"
)

// writeLog writes a log of records, each "OFFSET STREAM TAG TEXT" with the offset
// in seconds from noon.
func writeLog(t *testing.T, dir string, lines ...string) {
	t.Helper()
	f, err := os.OpenFile(dir+"/"+logs.File, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, line := range lines {
		var offset int
		at, rest, _ := strings.Cut(line, " ")
		fmt.Sscan(at, &offset)
		fmt.Fprintf(f, "%s %s\n", noon.Add(time.Duration(offset)*time.Second).Format(time.RFC3339Nano), rest)
	}
}

// mergeAll reads the logs in dirs and returns what is printed, each line behind
// its log's number.
func mergeAll(t *testing.T, ctx context.Context, o logs.Options, dirs []string, seen func(string)) string {
	t.Helper()
	var b strings.Builder
	p := logPrinter{out: bufio.NewWriter(&b), several: len(dirs) > 1, width: 1}
	m := merger{follow: o.Follow, flush: p.out.Flush, emit: func(i int, r logs.Record) error {
		seen(r.Text)
		return p.print(fmt.Sprint(i), r)
	}}
	for _, dir := range dirs {
		m.sources = append(m.sources, &logSource{dir: dir, options: o})
	}
	if err := m.run(ctx); err != nil {
		t.Fatal(err)
	}
	p.out.Flush()
	return b.String()
}

func TestMerge(t *testing.T) {
	many := make([]string, 3*ahead)
	for i := range many {
		many[i] = fmt.Sprintf("%d stdout F %d", 100+i, i)
	}
	for _, test := range []struct {
		summary string
		logs    [][]string
		tail    int
		want    string
	}{
		{"no log yet", [][]string{nil}, -1, ""},
		{"one log, no name before its lines", [][]string{{"1 stdout F a", "2 stderr F b"}}, -1, "a\nb\n"},
		{"parts of a line are joined", [][]string{{"1 stdout P a", "2 stdout P b", "3 stdout F c", "4 stdout F d"}}, -1, "abc\nd\n"},
		{"another stream does not run into them", [][]string{{"1 stdout P a", "2 stderr F x", "3 stdout F b"}}, -1, "a\nx\nb\n"},
		{"two, by time", [][]string{{"1 stdout F a", "4 stdout F d"}, {"2 stdout F b", "3 stdout F c", "5 stdout F e"}}, -1, "0  a\n1  b\n1  c\n0  d\n1  e\n"},
		{"one's own order outlives a clock that was set back", [][]string{{"5 stdout F a", "1 stdout F b"}, {"3 stdout F c"}}, -1, "1  c\n0  a\n0  b\n"},
		{"of equal times, the first log's come first", [][]string{{"1 stdout F a", "1 stdout F b", "2 stdout F e"}, {"1 stdout F c", "1 stdout F d"}}, -1, "0  a\n0  b\n1  c\n1  d\n0  e\n"},
		{"a tail of each", [][]string{{"1 stdout F a", "4 stdout F d"}, {"2 stdout F b", "3 stdout F c"}}, 1, "1  c\n0  d\n"},
		{"one is far ahead of the other", [][]string{many, {"99 stdout F first"}}, 1, "1  first\n0  767\n"},
	} {
		t.Run(test.summary, func(t *testing.T) {
			var dirs []string
			for _, lines := range test.logs {
				dirs = append(dirs, t.TempDir())
				writeLog(t, dirs[len(dirs)-1], lines...)
			}
			if got := mergeAll(t, t.Context(), logs.Options{Tail: test.tail}, dirs, func(string) {}); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
		})
	}
}

// A quiet log holds nobody up, and one that comes later is followed too.
func TestMergeFollows(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), roottest.Patience)
	defer cancel()
	busy, late := t.TempDir(), t.TempDir()+"/later"
	writeLog(t, busy, "1 stdout F a")
	got := mergeAll(t, ctx, logs.Options{Tail: -1, Follow: true}, []string{busy, late}, func(text string) {
		switch text {
		case "a":
			if err := os.Mkdir(late, 0o700); err != nil {
				t.Error(err)
			}
			writeLog(t, late, "2 stdout F b")
		case "b":
			writeLog(t, busy, "3 stdout F c")
		case "c":
			cancel()
		}
	})
	if want := "0  a\n1  b\n0  c\n"; got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
