package statehub_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// TestAnswers is the table of docs/statehub.md, status by status.
func TestAnswers(t *testing.T) {
	for status := 200; status < 600; status++ {
		want := retried
		switch {
		case status < 300:
			want = taken
		case status == 408, status == 425, status == 429:
		case status >= 400 && status < 500:
			want = refused
		}
		if http.StatusText(status) == "" && status%100 != 99 {
			continue // one unknown status of each class is enough
		}
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			h := startHub(t, statuses(map[string]int{"POST": status}))
			err := emit(t, newSink(t, eventsOnly(h.URL)), ready())
			wantVerdict(t, err, want)
			if n := len(h.seen()); n != 1 {
				t.Errorf("%d requests were sent, want 1", n)
			}
			if err == nil {
				return
			}
			for _, part := range []string{"POST " + h.URL + "/v1/events: ", fmt.Sprint(status), http.StatusText(status)} {
				if !strings.Contains(err.Error(), part) {
					t.Errorf("the error %q does not say %q", err, part)
				}
			}
			if auth := status == 401 || status == 403; errors.Is(err, sandboxer.ErrAuth) != auth {
				t.Errorf("%v matches ErrAuth: %v, want %v", err, !auth, auth)
			}
		})
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Now().Truncate(time.Second)
	date := func(d time.Duration) string { return now.Add(d).UTC().Format(http.TimeFormat) }
	for name, test := range map[string]struct {
		status              int
		value, date         string
		wantLeast, wantMost time.Duration
	}{
		"none":                     {status: 503},
		"seconds":                  {503, "120", "", 2 * time.Minute, 2 * time.Minute},
		"with 429":                 {429, "7", "", 7 * time.Second, 7 * time.Second},
		"with a redirect":          {302, "7", "", 7 * time.Second, 7 * time.Second},
		"at most an hour":          {503, "86400", "", time.Hour, time.Hour},
		"more than a number holds": {503, "99999999999999999999999", "", time.Hour, time.Hour},
		"zero":                     {503, "0", "", 0, 0},
		"negative":                 {503, "-5", "", 0, 0},
		"a fraction":               {503, "1.5", "", 0, 0},
		"words":                    {503, "soon", "", 0, 0},
		"a date":                   {503, date(10 * time.Minute), "", 9 * time.Minute, 10 * time.Minute},
		"a past date":              {503, date(-time.Hour), "", 0, 0},
		"a far date":               {503, date(48 * time.Hour), "", time.Hour, time.Hour},
		"the year 9999":            {503, "Fri, 31 Dec 9999 23:59:59 GMT", "", time.Hour, time.Hour},
		"the hub's clock is wrong": {503, date(-24*time.Hour + time.Minute), date(-24 * time.Hour), time.Minute, time.Minute},
		"an old form of date":      {503, now.Add(10 * time.Minute).UTC().Format(time.RFC850), "", 9 * time.Minute, 10 * time.Minute},
		"a refusal for good":       {400, "120", "", 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, func(w http.ResponseWriter, _ *http.Request) {
				if test.value != "" {
					w.Header().Set("Retry-After", test.value)
				}
				if test.date != "" {
					w.Header().Set("Date", test.date)
				}
				w.WriteHeader(test.status)
			})
			got := verdictOf(t, emit(t, newSink(t, eventsOnly(h.URL)), ready()))
			if got.Taken || got.RetryAfter < test.wantLeast || got.RetryAfter > test.wantMost {
				t.Errorf("got %+v, want a pause of %v to %v", got, test.wantLeast, test.wantMost)
			}
		})
	}
}

// TestRedirect: nothing goes to another address, the token least of all.
func TestRedirect(t *testing.T) {
	elsewhere := startHub(t, nil)
	for _, status := range []int{301, 302, 303, 307, 308} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			h := startHub(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Location", strings.Replace(elsewhere.URL, "://", "://user:pass-word@", 1)+"/v2/events?key=se-cret")
				w.WriteHeader(status)
			})
			cfg := eventsOnly(h.URL)
			cfg.Token = "to-ken-0123456789"
			err := emit(t, newSink(t, cfg), ready())
			wantVerdict(t, err, retried)
			if text := err.Error(); !strings.Contains(text, elsewhere.URL+"/v2/events") || strings.Contains(text, "pass-word") || strings.Contains(text, "se-cret") {
				t.Errorf("%q: want where the redirect leads, without its secrets", text)
			}
			if !strings.Contains(sandboxer.Hint(err), "set url") {
				t.Errorf("%v: the hint is %q", err, sandboxer.Hint(err))
			}
		})
	}
	if got := elsewhere.lines(); got != "" {
		t.Errorf("the other address saw %s", got)
	}
}

// TestExcerpt: an error shows the beginning of an answer, harmlessly.
func TestExcerpt(t *testing.T) {
	long := strings.Repeat("é", 500)
	for name, test := range map[string]struct{ body, want string }{
		"nothing":            {"", "400 Bad Request"},
		"a line":             {"the field x is missing\n", "400 Bad Request: the field x is missing"},
		"many lines":         {"<html>\r\n\t<h1>No</h1>\n</html>", "400 Bad Request: <html> <h1>No</h1> </html>"},
		"control bytes":      {"a\x1b[31mred\x00\x07\u202eb", "400 Bad Request: a [31mred b"},
		"not UTF-8":          {"a\xff\xfeb", "400 Bad Request: a\uFFFDb"},
		"long":               {long, "400 Bad Request: " + long[:196] + "…"},
		"only control bytes": {"\x00\x01\n", "400 Bad Request"},
	} {
		t.Run(name, func(t *testing.T) {
			h := startHub(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusBadRequest)
				_, _ = w.Write([]byte(test.body))
			})
			err := emit(t, newSink(t, eventsOnly(h.URL)), ready())
			if want := "POST " + h.URL + "/v1/events: invalid: " + test.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}
