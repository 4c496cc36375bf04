package hub

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/sand-boxer/sandboxer"
)

// short writes a length of time in its two largest units.
func short(d time.Duration) string {
	const day = 24 * time.Hour
	switch {
	case d < 0:
		return "0s" // clocks differ
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm %ds", d/time.Minute, d%time.Minute/time.Second)
	case d < day:
		return fmt.Sprintf("%dh %dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd %dh", d/day, d%day/time.Hour)
}

// clock writes a moment of the day, moment a whole one; both UTC.
func clock(t time.Time) string  { return t.UTC().Format(time.TimeOnly) }
func moment(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000") }

// class is how the style sheet names a state. Newer clients may have states
// that are not known here.
func class(s sandboxer.State) string {
	if slices.Contains(sandboxer.States(), s) {
		return "s-" + string(s)
	}
	return "s-other"
}

// many writes a number with its noun.
func many(n int, noun string) string {
	switch {
	case n == 1:
		return "1 " + noun
	case strings.HasSuffix(noun, "x"):
		return fmt.Sprintf("%d %ses", n, noun)
	}
	return fmt.Sprintf("%d %ss", n, noun)
}

// seconds writes a number of seconds with its thousands apart.
func seconds(s float64) string {
	text := fmt.Sprintf("%.0f", s)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}

// costs writes what is known of money; empty if nothing is.
func costs(amounts []sandboxer.Amount) string {
	texts := make([]string, len(amounts))
	for i, a := range amounts {
		texts[i] = brief(a.String())
	}
	return strings.Join(texts, ", ")
}

// cut makes a text from outside, which may be of any length, one that people
// read; brief makes it as short as a name.
func cut(s string) string   { return readable(s, 2000) }
func brief(s string) string { return readable(s, 128) }

func readable(s string, most int) string {
	if len(s) > most {
		for !utf8.RuneStart(s[most]) {
			most--
		}
		s = s[:most] + "…"
	}
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) {
			return unicode.ReplacementChar // what turns the order of letters around shows one thing and is another
		}
		return r
	}, s)
}
