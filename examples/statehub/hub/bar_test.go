package hub

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

var noon = time.Date(2026, 1, 31, 12, 0, 0, 0, time.UTC)

// eventsAt are events so many seconds after noon, each with its state.
func eventsAt(pairs ...any) []sandboxer.Event {
	var events []sandboxer.Event
	for i := 0; i < len(pairs); i += 2 {
		events = append(events, sandboxer.Event{
			Seq: int64(i/2 + 1), Time: noon.Add(time.Duration(pairs[i].(int)) * time.Second), State: sandboxer.State(pairs[i+1].(string)),
		})
	}
	return events
}

func TestBar(t *testing.T) {
	hundred := span{noon, noon.Add(100 * time.Second)} // a percent is a second
	for _, tt := range []struct {
		name   string
		events []sandboxer.Event
		now    int
		drawn  string
		words  string
	}{
		{"nothing", nil, 100, "", "no events"},
		{"one that goes on", eventsAt(10, "requested"), 60, "s-requested 10+50", "requested 50s"},
		{"a life", eventsAt(0, "requested", 5, "provisioning", 45, "ready", 90, "destroying", 95, "destroyed"), 100,
			"s-requested 0+5 s-provisioning 5+40 s-ready 45+45 s-destroying 90+5 end 95", "requested 5.0s, provisioning 40s, ready 45s, destroying 5.0s, destroyed"},
		{"events that change no state", eventsAt(0, "ready", 20, "ready", 50, "active", 60, "active"), 80, "s-ready 0+50 s-active 50+30", "ready 50s, active 30s"},
		{"before the span", eventsAt(-100, "requested", -50, "ready", 20, "active"), 50, "s-ready 0+20 s-active 20+30", "requested 50s, ready 1m 10s, active 30s"},
		{"ended before the span", eventsAt(-100, "ready", -50, "destroyed"), 50, "", "ready 50s, destroyed"},
		{"after the span", eventsAt(0, "ready", 150, "active"), 200, "s-ready 0+100", "ready 2m 30s, active 50s"},
		{"too short to be seen", eventsAt(0, "ready", 50, "failed", 50, "destroying", 60, "destroyed"), 100,
			"s-ready 0+50 s-destroying 50+10 s-failed 50+0.35 end 60", "ready 50s, failed 0.0s, destroying 10s, destroyed"},
		{"clocks that differ", eventsAt(50, "requested", 40, "ready"), 60, "s-requested 50+0.35 s-ready 40+20", "requested 0s, ready 20s"},
		{"a state that is not known", eventsAt(0, "frozen"), 60, "s-other 0+60", "frozen 1m 0s"},
		{"recreated", eventsAt(0, "ready", 10, "destroying", 20, "requested", 30, "ready"), 40,
			"s-ready 0+10 s-destroying 10+10 s-requested 20+10 s-ready 30+10", "ready 10s, destroying 10s, requested 10s, ready 10s"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := barOf(tt.events, hundred, noon.Add(time.Duration(tt.now)*time.Second))
			var drawn []string
			for _, s := range b.Segments {
				drawn = append(drawn, fmt.Sprintf("%s %v+%v", s.Class, rounded(s.X), rounded(s.Width)))
			}
			if b.Ended != nil {
				drawn = append(drawn, fmt.Sprintf("end %v", rounded(b.Ended.X)))
			}
			if got := strings.Join(drawn, " "); got != tt.drawn {
				t.Errorf("drawn %q, want %q", got, tt.drawn)
			}
			if b.Label != tt.words {
				t.Errorf("in words %q, want %q", b.Label, tt.words)
			}
		})
	}
}

func rounded(p percent) float64 { return math.Round(float64(p)*1000) / 1000 }

func TestSpan(t *testing.T) {
	now := noon.Add(1000 * time.Second)
	ended, alive := &history{events: eventsAt(100, "ready", 200, "destroyed")}, &history{events: eventsAt(50, "ready")}
	for _, tt := range []struct {
		name     string
		found    []*history
		since    time.Time
		from, to float64 // seconds after noon
	}{
		{"nothing", nil, time.Time{}, 1000, 1001.02},
		{"all ended", []*history{ended}, time.Time{}, 100, 202},
		{"one goes on", []*history{ended, alive}, time.Time{}, 50, 1019},
		{"since", []*history{ended}, noon, 0, 1020},
		{"since now", []*history{alive}, now, 1000, 1001.02},
		{"no events", []*history{{}}, time.Time{}, 1000, 1001.02},
		{"a clock ahead", []*history{{events: eventsAt(0, "ready", 2000, "active")}}, time.Time{}, 0, 2040},
	} {
		s := spanOf(tt.found, tt.since, now)
		if from, to := s.from.Sub(noon).Seconds(), s.to.Sub(noon).Seconds(); from != tt.from || to != tt.to {
			t.Errorf("%s: %v to %v, want %v to %v", tt.name, from, to, tt.from, tt.to)
		}
	}
}

// TestTicks: on every scale, even an absurd one, there are some ticks, they
// fit, and no two read the same.
func TestTicks(t *testing.T) {
	for _, tt := range []struct {
		length time.Duration
		first  string
	}{
		{time.Second, ""}, {20 * time.Second, "12:00:05"}, {5 * time.Minute, "12:01"}, {time.Hour, "12:10"}, {8 * time.Hour, "14:00"},
		{24 * time.Hour, "18:00"}, {7 * 24 * time.Hour, "Feb 1"}, {300 * 24 * time.Hour, "Mar 8"}, {200 * 365 * 24 * time.Hour, ""},
	} {
		s := span{noon, noon.Add(tt.length)}
		checkTicks(t, s, tt.length.String(), tt.first)
	}
	checkTicks(t, span{time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)}, "all time", "")
}

func checkTicks(t *testing.T, s span, name, first string) {
	t.Helper()
	ticks := s.ticks()
	if len(ticks) > mostTicks+1 || len(ticks) == 0 && name != "1s" {
		t.Errorf("%s: %d ticks", name, len(ticks))
	}
	if first != "" && ticks[0].Label != first {
		t.Errorf("%s: the first tick is %s, want %s", name, ticks[0].Label, first)
	}
	seen := map[string]bool{}
	for _, tick := range ticks {
		if tick.X < 0 || tick.X > 100 || seen[tick.Label] {
			t.Errorf("%s: tick %s at %s", name, tick.Label, tick.X)
		}
		seen[tick.Label] = true
	}
}
