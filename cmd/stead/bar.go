package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"stead/runtime/image"

	"golang.org/x/sys/unix"
)

// bar shows how far something has come: on a terminal as a bar that is redrawn, elsewhere as a
// line every 10 seconds.
type bar struct {
	w    io.Writer
	what string
	live *os.File // the terminal; nil if w is none

	mu    sync.Mutex
	last  time.Time
	drawn bool
}

func newBar(w io.Writer, what string) *bar {
	b := &bar{w: w, what: what, last: time.Now()}
	if f, ok := fileOf(w); ok && isTerminal(w) && os.Getenv("TERM") != "dumb" {
		b.live = f
	}
	return b
}

// update shows new progress.
func (b *bar) update(p image.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	text := b.what + "  " + size(p.Done)
	if p.Total > 0 {
		text += " of " + size(p.Total)
	}
	if b.live == nil {
		if time.Since(b.last) >= 10*time.Second {
			b.last = time.Now()
			fmt.Fprintln(b.w, text)
		}
		return
	}
	width := 80
	if size, err := unix.IoctlGetWinsize(int(b.live.Fd()), unix.TIOCGWINSZ); err == nil && size.Col > 0 {
		width = int(size.Col)
	}
	if p.Total > 0 {
		const cells = 30
		full := int(min(p.Done, p.Total) * cells / p.Total)
		text = fmt.Sprintf("%s  [%s%s] %d %%", text, strings.Repeat("=", full), strings.Repeat(" ", cells-full), min(p.Done, p.Total)*100/p.Total)
	}
	b.drawn = true
	fmt.Fprintf(b.w, "\r\x1b[K%s", fit(text, width))
}

// end erases the bar.
func (b *bar) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.drawn {
		fmt.Fprint(b.w, "\r\x1b[K")
	}
}
