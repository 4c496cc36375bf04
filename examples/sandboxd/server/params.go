package server

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sand-boxer/sandboxer/examples/sandboxd/api"
)

// params are the values beside the body, as the table of operations wants them.
type params struct {
	operation api.Operation
	values    map[string][]string
}

// readParams reads what the operation knows. All that is wrong is told at once.
func readParams(o api.Operation, r *http.Request) (params, error) {
	p := params{operation: o, values: map[string][]string{}}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return p, refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "the query cannot be read: %v", err)
	}
	var wrong []api.Field
	for _, known := range o.Parameters {
		var given []string
		switch known.In {
		case api.InQuery:
			given = query[known.Name]
			delete(query, known.Name)
		case api.InHeader:
			given = r.Header.Values(known.Name)
		default:
			continue
		}
		if len(given) > 1 && !known.Repeats && known.In == api.InQuery {
			wrong = append(wrong, api.Field{Name: known.Name, Reason: fmt.Sprintf("is given %d times", len(given))})
		}
		for _, text := range given {
			if reason := problemWith(known, text); reason != "" {
				wrong = append(wrong, api.Field{Name: known.Name, Reason: reason})
			}
		}
		p.values[known.Name] = given
	}
	for name := range query {
		wrong = append(wrong, api.Field{Name: brief(name), Reason: "is no parameter of " + o.ID})
	}
	if len(wrong) == 0 {
		return p, nil
	}
	slices.SortFunc(wrong, func(a, b api.Field) int { return strings.Compare(a.Name, b.Name) })
	bad := refuse(http.StatusBadRequest, "invalid", api.ClassUsage, "%s: %s", wrong[0].Name, wrong[0].Reason)
	bad.Fields = wrong
	return p, bad
}

// problemWith says what is wrong with one value, or "".
func problemWith(p api.Parameter, text string) string {
	switch p.Kind {
	case api.Text:
		if !utf8.ValidString(text) || utf8.RuneCountInString(text) > p.Max {
			return fmt.Sprintf("is not text of at most %d characters", p.Max)
		}
	case api.Number:
		if n, err := strconv.Atoi(text); err != nil || n < p.Min || n > p.Max {
			return fmt.Sprintf("%q is not a number from %d to %d", brief(text), p.Min, p.Max)
		}
	case api.Flag:
		if text != "true" && text != "false" {
			return fmt.Sprintf("%q is not true or false", brief(text))
		}
	case api.Choice:
		if !slices.Contains(p.Choices, text) {
			return fmt.Sprintf("%q is not one of %s", brief(text), strings.Join(p.Choices, ", "))
		}
	case api.Moment:
		if _, ok := momentOf(text, time.Now()); !ok {
			return fmt.Sprintf("%q is not a time such as 2026-01-31T12:00:00Z, nor a duration such as 90m for so long ago", brief(text))
		}
	case api.Pair:
		if key, _, ok := strings.Cut(text, "="); !ok || key == "" {
			return fmt.Sprintf("%q is not of the form key=value", brief(text))
		}
	}
	return ""
}

func momentOf(text string, now time.Time) (time.Time, bool) {
	if ago, err := time.ParseDuration(text); err == nil {
		return now.Add(-ago), ago >= 0
	}
	t, err := time.Parse(time.RFC3339, text)
	return t, err == nil
}

func (p params) all(name string) []string { return p.values[name] }

func (p params) text(name string) string {
	if v := p.values[name]; len(v) > 0 {
		return v[0]
	}
	return ""
}

// list joins the lines of a header that holds a list.
func (p params) list(name string) string { return strings.Join(p.values[name], ", ") }

func (p params) flag(name string) bool { return p.text(name) == "true" }

// moment is zero for a parameter that was not given.
func (p params) moment(name string) time.Time {
	t, _ := momentOf(p.text(name), time.Now())
	if p.text(name) == "" {
		return time.Time{}
	}
	return t.UTC()
}

func (p params) number(name string) int {
	if n, err := strconv.Atoi(p.text(name)); err == nil {
		return n
	}
	i := slices.IndexFunc(p.operation.Parameters, func(known api.Parameter) bool { return known.Name == name })
	return p.operation.Parameters[i].Usual
}

// pairs are the values of a Pair that repeats; a later one of a key wins.
func (p params) pairs(name string) map[string]string {
	out := map[string]string{}
	for _, text := range p.values[name] {
		key, value, _ := strings.Cut(text, "=")
		out[key] = value
	}
	return out
}
