package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

var (
	// ErrUnreachable says that the engine did not answer: it could not be dialled, or the connection broke or spoke
	// something else than HTTP before the answer was complete. Whether a request took effect is then unknown. The
	// error that the dial function or the connection gave is wrapped beside it.
	ErrUnreachable = errors.New("the container engine does not answer")

	// ErrTooOld says that the engine's newest API version is older than this package speaks.
	ErrTooOld = errors.New("the container engine is too old: Docker Engine 20.10 or newer is needed")
)

// Error is a request that the engine refused or could not carry out.
type Error struct {
	Op         string // method and path, without the version
	StatusCode int    // of HTTP; 0 for a failure that came later in an answer that had begun with success
	Message    string // the engine's own words
}

func (e *Error) Error() string {
	if e.StatusCode == 0 {
		return fmt.Sprintf("%s: %s", e.Op, e.Message)
	}
	return fmt.Sprintf("%s: %s (status %d)", e.Op, e.Message, e.StatusCode)
}

// IsNotFound reports whether the engine said that an object named by the request does not exist.
func IsNotFound(err error) bool { return hasStatus(err, http.StatusNotFound) }

// IsConflict reports whether the engine said that the state of an object does not allow the request: a name is taken,
// a container is not running, an image is in use, a removal is already in progress.
func IsConflict(err error) bool { return hasStatus(err, http.StatusConflict) }

func hasStatus(err error, status int) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.StatusCode == status
}

// refusesVersion recognises the engine's "client version 1.41 is too old" and its opposite.
func (e *Error) refusesVersion() bool {
	return e.StatusCode == http.StatusBadRequest && strings.Contains(e.Message, "client version")
}

// readError makes an [*Error] of an answer that is not success.
func readError(op string, resp *http.Response) error {
	const longest = 4 << 10
	text, _ := io.ReadAll(io.LimitReader(resp.Body, longest)) // the status alone says enough
	var answer struct{ Message string }
	if json.Unmarshal(text, &answer) != nil || answer.Message == "" {
		answer.Message = strings.TrimSpace(string(text))
	}
	if answer.Message == "" {
		answer.Message = http.StatusText(resp.StatusCode)
	}
	return &Error{Op: op, StatusCode: resp.StatusCode, Message: answer.Message}
}

// unanswered is the error of an exchange that broke off.
func unanswered(ctx context.Context, op string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", op, ctx.Err())
	}
	return fmt.Errorf("%s: %w: %w", op, ErrUnreachable, err)
}
