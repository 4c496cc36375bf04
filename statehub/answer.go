package statehub

import (
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// An answer is what a hub said to a request.
type answer struct {
	request
	status     int
	retryAfter time.Duration
	text       string // the beginning of the body, one line, redacted
	location   string // of a redirect, redacted
}

// taken reports that the hub did what the request asks for.
func (a answer) taken() bool { return a.status/100 == 2 }

// unknown reports that the hub does not have what the request is for.
func (a answer) unknown() bool {
	return a.status == http.StatusNotFound || a.status == http.StatusMethodNotAllowed || a.status == http.StatusNotImplemented
}

// again reports that the same request may be taken later.
func (a answer) again() bool {
	switch a.status {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return !a.taken() && a.status/100 != 4
}

// err is nil for a request that was taken.
func (a answer) err() error {
	if a.taken() {
		return nil
	}
	sentinel, hint := sandboxer.ErrInvalid, ""
	reason := strings.TrimSpace(fmt.Sprintf("%d %s", a.status, http.StatusText(a.status)))
	switch {
	case a.status == http.StatusUnauthorized, a.status == http.StatusForbidden:
		sentinel, hint = sandboxer.ErrAuth, "give a token that the hub accepts; sandbox redeliver then offers again what was given up"
	case a.again():
		sentinel = sandboxer.ErrUnavailable
	case a.unknown():
		hint = "see that url, paths and shape are those of the hub"
	}
	if a.location != "" && a.status/100 == 3 {
		reason += fmt.Sprintf(" to %q, which is not followed", a.location)
		hint = "if the hub has moved, set url to where it is now"
	}
	if a.text != "" {
		reason += ": " + a.text
	}
	err := &sandboxer.DeliveryError{Err: sandboxer.WithHint(a.failed(sentinel, reason), "%s", hint), Permanent: !a.again()}
	if a.again() {
		err.RetryAfter = a.retryAfter
	}
	return err
}

// maxRetryAfter is the longest that a hub can ask for.
const maxRetryAfter = time.Hour

// retryAfter reads how long the hub wants to be left alone: seconds, or a
// date, which is compared with the hub's own clock where the answer tells it.
// It is not negative, and 0 for what cannot be read.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err == nil || errors.Is(err, strconv.ErrRange) {
		return time.Duration(min(seconds, uint64(maxRetryAfter/time.Second))) * time.Second
	}
	until, err := http.ParseTime(text)
	if err != nil {
		return 0
	}
	if theirs, err := http.ParseTime(h.Get("Date")); err == nil {
		now = theirs
	}
	return max(0, min(maxRetryAfter, until.Sub(now)))
}
