package relay

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer/compose/internal/engine"
)

// An Outcome is what became of an attempt to connect.
type Outcome string

// The outcomes. Open and Refused both mean that the other end was reached.
const (
	Open        Outcome = "open"
	Refused     Outcome = "refused"     // a reset came back
	Silent      Outcome = "silent"      // nothing came back in time
	Unreachable Outcome = "unreachable" // no way there, or something on it said no
)

// Reached reports whether the other end answered, in whatever way.
func (o Outcome) Reached() bool { return o == Open || o == Refused }

// Probe has a running relay, as [Ensure] returns it, ask every target for a
// TCP connection, all at once, each for at most the bound. What can be reached
// from there can be reached by every container on the same networks.
func Probe(ctx context.Context, eng *engine.Client, container string, bound time.Duration, targets []netip.AddrPort) (map[netip.AddrPort]Outcome, error) {
	cmd := []string{binary, "probe", strconv.FormatInt(max(1, bound.Milliseconds()), 10)}
	for _, t := range targets {
		cmd = append(cmd, t.String())
	}
	process, err := eng.Exec(ctx, container, cmd...)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = process.Close() })
	defer stop()
	defer process.Close()
	text, err := io.ReadAll(io.LimitReader(process, 64<<10))
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	return parseOutcomes(string(text), targets)
}

// parseOutcomes wants an outcome for every target: one that is missing is not taken for closed.
func parseOutcomes(text string, targets []netip.AddrPort) (map[netip.AddrPort]Outcome, error) {
	all := map[netip.AddrPort]Outcome{}
	for line := range strings.Lines(text) {
		target, outcome, _ := strings.Cut(strings.TrimSpace(line), " ")
		addr, err := netip.ParseAddrPort(target)
		if err != nil {
			return nil, fmt.Errorf("the relay answered a probe with %q", text)
		}
		switch o := Outcome(outcome); o {
		case Open, Refused, Silent, Unreachable:
			all[addr] = o
		default:
			return nil, fmt.Errorf("the relay answered a probe with %q", text)
		}
	}
	for _, t := range targets {
		if all[t] == "" {
			return nil, fmt.Errorf("the relay says nothing of %v: %q", t, text)
		}
	}
	return all, nil
}
