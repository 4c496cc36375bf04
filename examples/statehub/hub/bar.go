package hub

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A span is the part of time that a page shows.
type span struct {
	from, to time.Time
}

// spanOf holds the histories, up to now while one of them goes on. Without
// since it begins with the first event.
func spanOf(found []*history, since, now time.Time) span {
	s := span{since, now}
	if since.IsZero() {
		s = span{now, time.Time{}}
		for _, h := range found {
			if len(h.events) == 0 {
				continue
			}
			last := h.events[len(h.events)-1]
			if !last.State.Terminal() {
				s.to = latest(s.to, now)
			}
			for _, e := range h.events { // clocks differ: the first is not always the earliest
				s.from, s.to = earliest(s.from, e.Time), latest(s.to, e.Time)
			}
		}
	}
	if s.to.Sub(s.from) < time.Second {
		s.to = s.from.Add(time.Second)
	}
	// room for what ends last
	s.to = s.to.Add(s.to.Sub(s.from) / 50)
	return s
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func latest(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// at is where a moment lies, in percent; outside of the span below 0 or over 100.
func (s span) at(t time.Time) float64 {
	return 100 * float64(t.UnixMicro()-s.from.UnixMicro()) / float64(s.to.UnixMicro()-s.from.UnixMicro())
}

// A percent is written for an attribute of SVG.
type percent float64

func (p percent) String() string { return fmt.Sprintf("%.3f%%", float64(p)) }

// A bar is a sandbox's life as it is drawn.
type bar struct {
	Label    string // in words, for those who do not see it
	Segments []segment
	Ended    *mark
	Ticks    []tick
}

// A segment is a stretch of one state.
type segment struct {
	Class    string
	X, Width percent
	Title    string
}

// A mark is a moment.
type mark struct {
	X     percent
	Title string
}

// leastWidth keeps a short state visible, in percent.
const leastWidth = 0.35

func barOf(events []sandboxer.Event, s span, now time.Time) bar {
	b := bar{Label: "no events", Ticks: s.ticks()}
	var words []string
	for i := 0; i < len(events); {
		first := events[i]
		for i++; i < len(events) && events[i].State == first.State; i++ {
		}
		if first.State.Terminal() {
			x := s.at(first.Time)
			words = append(words, string(first.State))
			if x >= 0 && x <= 100 {
				b.Ended = &mark{percent(x), fmt.Sprintf("%s at %s", first.State, clock(first.Time))}
			}
			continue
		}
		end, until := now, "now"
		if i < len(events) {
			end, until = events[i].Time, clock(events[i].Time)
		}
		length := short(end.Sub(first.Time))
		words = append(words, brief(string(first.State))+" "+length)
		x, to := max(0, s.at(first.Time)), min(100, s.at(end))
		if to < 0 || x > 100 {
			continue
		}
		b.Segments = append(b.Segments, segment{
			Class: class(first.State), X: percent(x), Width: percent(max(leastWidth, to-x)),
			Title: fmt.Sprintf("%s for %s, %s to %s", brief(string(first.State)), length, clock(first.Time), until),
		})
	}
	// what is drawn last lies on top: failures are often too short to be seen otherwise
	slices.SortStableFunc(b.Segments, func(x, y segment) int { return cmp.Compare(rank(x.Class), rank(y.Class)) })
	if len(words) > 0 {
		b.Label = strings.Join(words, ", ")
	}
	return b
}

func rank(name string) int {
	if name == class(sandboxer.StateFailed) || name == class(sandboxer.StateLost) {
		return 1
	}
	return 0
}
