package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"stead/reconcile"

	"golang.org/x/sys/unix"
)

// progress shows an apply while it runs: a line for each action that ended, and on a
// terminal below these a line for each action that runs.
type progress struct {
	w    io.Writer
	live *os.File // the terminal; nil if w is none

	mu      sync.Mutex
	ended   chan struct{} // closed by end
	parts   sync.WaitGroup
	running []runningAction
	drawn   int // lines of the terminal to redraw
}

// runningAction is an action and when it started.
type runningAction struct {
	reconcile.Progress
	at time.Time
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, ended: make(chan struct{})}
	if f, ok := fileOf(w); ok && isTerminal(w) && os.Getenv("TERM") != "dumb" {
		p.live = f
		p.parts.Go(p.tick)
	}
	return p
}

// tick redraws the times every second.
func (p *progress) tick() {
	t := time.NewTicker(time.Second)
	defer t.Stop()
	for {
		select {
		case <-p.ended:
			return
		case <-t.C:
			p.mu.Lock()
			p.draw("")
			p.mu.Unlock()
		}
	}
}

// end stops the display and erases the running actions.
func (p *progress) end() {
	close(p.ended)
	p.parts.Wait()
	p.running = nil
	p.draw("")
}

// update shows that an action started or ended.
func (p *progress) update(news reconcile.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = slices.DeleteFunc(p.running, func(r runningAction) bool { return r.Name == news.Name })
	if !news.Ended {
		p.running = append(p.running, runningAction{news, time.Now()})
		p.draw("")
		return
	}
	p.draw(news.Line + "\n")
}

// draw prints the lines of actions that ended, and redraws those of running actions below.
func (p *progress) draw(done string) {
	if p.live == nil {
		io.WriteString(p.w, done)
		return
	}
	var text strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&text, "\x1b[%dA\r\x1b[J", p.drawn) // up, and clear from there to the end
	}
	text.WriteString(done)
	width, height := 80, 24
	if size, err := unix.IoctlGetWinsize(int(p.live.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 && size.Row > 0 {
		width, height = int(size.Col), int(size.Row)
	}
	p.drawn = 0
	for i, r := range p.running {
		if p.drawn++; p.drawn == max(2, height/2) && i < len(p.running)-1 {
			fmt.Fprintf(&text, "  … and %d more\n", len(p.running)-i)
			break
		}
		text.WriteString(fit(fmt.Sprintf("  %4s  %s", age(time.Since(r.at)), r.Line), width) + "\n")
	}
	io.WriteString(p.w, text.String())
}

// fit cuts a line to a width. A line that wraps could not be erased.
func fit(line string, width int) string {
	if utf8.RuneCountInString(line) < width {
		return line
	}
	return string([]rune(line)[:max(width-2, 0)]) + "…"
}
