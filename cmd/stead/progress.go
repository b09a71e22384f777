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

// progress shows an apply as it goes on: a line for what has ended, and on a
// terminal below that a line for each container that something is done to.
type progress struct {
	w    io.Writer
	live *os.File // the terminal; nil if nobody looks

	mu      sync.Mutex
	ended   chan struct{} // closed by end
	parts   sync.WaitGroup
	running []begun
	drawn   int // lines of the terminal that are redrawn
}

// begun is an action under way.
type begun struct {
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

// tick keeps the times that things take going.
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

// end takes away what is not over.
func (p *progress) end() {
	close(p.ended)
	p.parts.Wait()
	p.running = nil
	p.draw("")
}

func (p *progress) tell(news reconcile.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.running = slices.DeleteFunc(p.running, func(b begun) bool { return b.Name == news.Name })
	if !news.Ended {
		p.running = append(p.running, begun{news, time.Now()})
		p.draw("")
		return
	}
	p.draw(news.Line + "\n")
}

// draw replaces the lines of what is under way, below those of what has ended.
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
	for i, b := range p.running {
		if p.drawn++; p.drawn == max(2, height/2) && i < len(p.running)-1 {
			fmt.Fprintf(&text, "  … and %d more\n", len(p.running)-i)
			break
		}
		text.WriteString(fit(fmt.Sprintf("  %4s  %s", age(time.Since(b.at)), b.Line), width) + "\n")
	}
	io.WriteString(p.w, text.String())
}

// fit cuts a line to a width: one that wraps could not be taken back.
func fit(line string, width int) string {
	if utf8.RuneCountInString(line) < width {
		return line
	}
	return string([]rune(line)[:max(width-2, 0)]) + "…"
}
