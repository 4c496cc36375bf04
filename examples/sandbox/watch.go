package main

import (
	"bytes"
	"context"
	"fmt"
	"time"
)

// clearScreen moves to the top left corner and erases what follows.
const clearScreen = "\x1b[H\x1b[J"

// watch shows something again and again until ctx ends, which is no error: on
// a terminal in place, elsewhere whenever what show says of it is different.
func (a *app) watch(ctx context.Context, every time.Duration, show func() (what string, err error)) error {
	screen, messages := a.out, a.err
	a.live = isTerminal(screen)
	last := "nothing yet"
	for {
		var page bytes.Buffer
		a.out, a.err = &page, &page // that there is nothing is what is shown then
		what, err := show()
		a.out, a.err = screen, messages
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		case a.live:
			_, err = fmt.Fprintf(screen, "%severy %v, Ctrl-C ends\n\n%s", clearScreen, every, page.String())
		case what != last:
			_, err = page.WriteTo(screen)
		}
		if err != nil {
			return err
		}
		last = what
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(every):
		}
	}
}
