package statehub

import (
	"net/http"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// FuzzRetryAfter: whatever a hub asks for is between nothing and an hour.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{"", "0", "120", "-1", "18446744073709551616", "1e9", "Fri, 31 Dec 9999 23:59:59 GMT", "Sat Mar 14 09:26:53 2026"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if got := retryAfter(h, time.Now()); got < 0 || got > time.Hour {
			t.Errorf("%q at %q is %v", value, date, got)
		}
	})
}

// FuzzExcerpt: what is shown of an answer is one short line of valid, printable text.
func FuzzExcerpt(f *testing.F) {
	for _, seed := range []string{"", "a\r\nb", "\x1b[31m", "\xff\xfe", "é\u202e\u2028", strings.Repeat("…", 100)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got := cut(oneLine(text), maxExcerpt)
		if len(got) > maxExcerpt || !utf8.ValidString(got) || strings.ContainsFunc(got, func(r rune) bool { return !unicode.IsGraphic(r) }) {
			t.Errorf("%q is shown as %q", text, got)
		}
	})
}
