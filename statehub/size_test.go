package statehub_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/sand-boxer/sandboxer"
	"github.com/sand-boxer/sandboxer/statehub"
)

// TestSizes: a message is cut; what is still too large is not sent.
func TestSizes(t *testing.T) {
	for _, shape := range []statehub.Shape{statehub.ShapeCloudEvents, statehub.ShapeProgress} {
		t.Run(string(shape), func(t *testing.T) {
			h := startHub(t, nil)
			book := &logBook{}
			s := newSink(t, statehub.Config{URL: h.URL, Shape: shape, Logger: book.logger()})
			e := ready()
			e.Message = "\xff" + strings.Repeat("é", 3000)
			wantVerdict(t, emit(t, s, e), taken)
			var got struct{ Data, Detail sandboxer.Event }
			if err := json.Unmarshal([]byte(h.seen()[1].Body), &got); err != nil {
				t.Fatal(err)
			}
			if text := got.Data.Message + got.Detail.Message; text != "\uFFFD"+strings.Repeat("é", 2045)+"…" {
				t.Errorf("the message has %d bytes: %.40q … %q", len(text), text, text[len(text)-10:])
			}
			e.Reachability = &sandboxer.Reachability{Workdir: strings.Repeat("x", 1<<20)}
			err := emit(t, s, e)
			wantVerdict(t, err, refused)
			if err == nil || !strings.Contains(err.Error(), "and a request at most 1048576") {
				t.Errorf("the error is %v", err)
			}
			if n := len(h.seen()); n != 2 {
				t.Errorf("%d requests were sent, want the 2 of the first event", n)
			}
			if !strings.Contains(book.String(), "registration refused") {
				t.Errorf("logged was %q", book)
			}
		})
	}
}

// TestUnencodable: an event that JSON cannot hold is no event for later.
func TestUnencodable(t *testing.T) {
	h := startHub(t, nil)
	e := ready()
	e.ExpiresAt = time.Date(12026, 1, 1, 0, 0, 0, 0, time.UTC)
	wantVerdict(t, emit(t, newSink(t, statehub.Config{URL: h.URL}), e), refused)
	if got := h.lines(); got != "" {
		t.Errorf("sent was %s", got)
	}
}
