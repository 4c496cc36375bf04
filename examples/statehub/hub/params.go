package hub

import (
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// params are the parameters of a query. What is wrong with them is collected,
// to be told at once.
type params struct {
	values   url.Values
	problems problems
}

// queryOf reads a query that may have the named parameters only, each once.
func queryOf(u *url.URL, known ...string) *params {
	p := &params{}
	var err error
	if p.values, err = url.ParseQuery(u.RawQuery); err != nil {
		p.problems.unless(false, "the query cannot be read: %v", err)
	}
	for name, values := range p.values {
		p.problems.unless(slices.Contains(known, name), "there is no parameter %q, only %s", brief(name), strings.Join(known, ", "))
		p.problems.unless(len(values) == 1, "%s is given %d times", brief(name), len(values))
	}
	slices.Sort(p.problems)
	return p
}

func (p *params) text(name string) string { return p.values.Get(name) }

// since is a time, or how long ago it was; zero if not given.
func (p *params) since(name string, now time.Time) time.Time {
	text := p.text(name)
	if text == "" {
		return time.Time{}
	}
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago)
	}
	t, err := time.Parse(time.RFC3339, text)
	p.problems.unless(err == nil, "%s is %q, want a time such as 2026-01-31T12:00:00Z, or a duration such as 90m or 24h for so long ago", name, brief(text))
	return t
}

// number is a whole number of a range, or a default if not given.
func (p *params) number(name string, usual, least, most int) int {
	text := p.text(name)
	if text == "" {
		return usual
	}
	n, err := strconv.Atoi(text)
	p.problems.unless(err == nil && n >= least && n <= most, "%s is %q, want a number from %d to %d", name, brief(text), least, most)
	return n
}

// choice is one of a list, the first if not given.
func (p *params) choice(name string, choices ...string) string {
	text := p.text(name)
	if text == "" {
		return choices[0]
	}
	p.problems.unless(slices.Contains(choices, text), "%s is %q, want one of %s", name, brief(text), strings.Join(choices, ", "))
	return text
}

// flag is nil if not given.
func (p *params) flag(name string) *bool {
	text := p.text(name)
	if text == "" {
		return nil
	}
	yes := text == "true"
	p.problems.unless(yes || text == "false", "%s is %q, want true or false", name, brief(text))
	return &yes
}

// eventID is a sandbox and a number, both zero if not given.
func (p *params) eventID(name string) (sandbox string, seq int64) {
	text := p.text(name)
	if text == "" {
		return "", 0
	}
	dash := strings.LastIndexByte(text, '-')
	if dash > 0 {
		if n, err := strconv.ParseInt(text[dash+1:], 10, 64); err == nil && n >= 0 {
			return text[:dash], n
		}
	}
	p.problems.unless(false, "%s is %q, want the id of an event, such as the last answer's next", name, brief(text))
	return "", 0
}
