package hub

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A group is the sandboxes of one consumer or on one host.
type group struct {
	Name   string
	Totals string
	Rows   []row
}

// A row is one sandbox.
type row struct {
	view
	Other string // the host, or where that is the group, the consumer
	Class string
	Age   string
	Bar   bar
}

// nobody is the key that meters have for what has no host or consumer.
const nobody = "none"

func groupsOf(found []*history, by sandboxer.MeterBy, s span, window sandboxer.Window) []group {
	groups := map[string]*group{}
	var events []sandboxer.Event
	for _, h := range found {
		r := rowOf(h, s, window.Until)
		key := consumerKey(r.Consumer)
		if by == sandboxer.ByHost {
			key, r.Other = cmp.Or(r.Host, nobody), key
		}
		if groups[key] == nil {
			groups[key] = &group{}
		}
		groups[key].Rows = append(groups[key].Rows, r)
		events = append(events, h.events...)
	}
	meters := map[string]sandboxer.Meter{}
	for _, m := range sandboxer.MetersOf(events, by, window) {
		meters[m.Key] = m
		if groups[m.Key] == nil { // all that was on this host has moved on
			groups[m.Key] = &group{}
		}
	}
	out := make([]group, 0, len(groups))
	for key, g := range groups {
		g.Name, g.Totals = groupName(key, by), totals(len(g.Rows), meters[key])
		out = append(out, *g)
	}
	slices.SortFunc(out, func(a, b group) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// consumerKey is what usage of a consumer is added up by: whatever the run.
func consumerKey(c sandboxer.Consumer) string {
	c.Run = ""
	return c.String()
}

func groupName(key string, by sandboxer.MeterBy) string {
	switch {
	case by == sandboxer.ByHost && key == nobody:
		return "no host yet"
	case key == consumerKey(sandboxer.Consumer{}):
		return "no consumer named"
	}
	return key
}

func totals(rows int, m sandboxer.Meter) string {
	parts := []string{many(rows, "sandbox"), seconds(m.Held) + " sandbox-seconds"}
	if known := costs(m.Costs); known != "" {
		parts = append(parts, known)
	}
	return strings.Join(parts, " · ")
}

func rowOf(h *history, s span, now time.Time) row {
	r := row{view: h.view(), Bar: barOf(h.events, s, now)}
	r.Other, r.Class, r.Age = r.Host, class(r.State), age(h, r.view, now)
	return r
}

// age is how long a sandbox has been there, or was.
func age(h *history, v view, now time.Time) string {
	began := v.CreatedAt
	if began.IsZero() && len(h.events) > 0 {
		began = h.events[0].Time
	}
	switch {
	case began.IsZero():
		return ""
	case v.State.Terminal():
		return "lived " + short(v.StateSince.Sub(began))
	}
	return short(now.Sub(began))
}

// A count is how many sandboxes are in a state.
type count struct {
	State, Class string
	N            int
}

// countsOf are in the order of a life.
func countsOf(groups []group) []count {
	numbers, order := map[sandboxer.State]int{}, sandboxer.States()
	for _, g := range groups {
		for _, r := range g.Rows {
			if !slices.Contains(order, r.State) {
				order = append(order, r.State)
			}
			numbers[r.State]++
		}
	}
	var out []count
	for _, s := range order {
		if numbers[s] > 0 {
			out = append(out, count{string(s), class(s), numbers[s]})
		}
	}
	return out
}
