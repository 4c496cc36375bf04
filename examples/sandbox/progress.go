package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/sand-boxer/sandboxer"
	"golang.org/x/term"
)

// A progress shows what a long operation is doing: one line that changes on a
// terminal, a line per stage otherwise.
type progress struct {
	mu      sync.Mutex
	out     io.Writer
	live    bool
	width   int
	began   time.Time
	stage   string
	lastLen int
}

func (a *app) progress() *progress {
	p := &progress{out: a.err, began: time.Now(), width: 80}
	if a.quiet {
		p.out = io.Discard
	}
	if f, ok := a.err.(*os.File); ok && !a.quiet && isTerminal(f) {
		p.live = true
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 20 {
			p.width = w
		}
	}
	return p
}

func (p *progress) report(now sandboxer.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	text := fmt.Sprintf("%6.1fs  %-10s %s", time.Since(p.began).Seconds(), now.Stage, amount(now)+now.Message)
	switch {
	case p.live:
		p.redraw(text, now.Stage != p.stage)
	case now.Stage != p.stage:
		fmt.Fprintln(p.out, text)
	}
	p.stage = now.Stage
}

// redraw replaces the line; a new stage leaves the last line of the old one standing.
func (p *progress) redraw(text string, newStage bool) {
	if newStage && p.lastLen > 0 {
		fmt.Fprintln(p.out)
	}
	line := []rune(text)
	if len(line) >= p.width {
		line = append(line[:p.width-2], '…')
	}
	fmt.Fprintf(p.out, "\r\x1b[K%s", string(line))
	p.lastLen = len(line)
}

// done ends the live line.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live && p.lastLen > 0 {
		fmt.Fprintln(p.out)
		p.lastLen = 0
	}
}

func amount(p sandboxer.Progress) string {
	switch {
	case p.Done == 0:
		return ""
	case p.Unit == "bytes" && p.Total > 0:
		return fmt.Sprintf("%s of %s ", size(p.Done), size(p.Total))
	case p.Unit == "bytes":
		return size(p.Done) + " "
	case p.Total > 0:
		return fmt.Sprintf("%d of %d %s ", p.Done, p.Total, p.Unit)
	}
	return fmt.Sprintf("%d %s ", p.Done, p.Unit)
}

func size(n int64) string {
	switch {
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
}
