package sandboxer

import (
	"context"
	"crypto/rand"
	"encoding/base32"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"time"
)

// errUnchanged is how an edit says that the record already is as wanted.
var errUnchanged = errors.New("unchanged")

// edit applies f to the stored record and writes it back with the event that
// describes the change, again if another process was faster. f sets State,
// Reason and Message; its error ends the attempt with nothing changed. With an
// error the record is returned as it was read, nil if it could not be.
func (c *Client) edit(ctx context.Context, id string, f func(*Record) error) (*Record, error) {
	for attempt := 0; ; attempt++ {
		r, err := c.store.Get(ctx, id)
		if err != nil {
			return nil, err
		}
		before := *r
		from, since := r.Sandbox.State, r.Sandbox.StateSince
		r.Sandbox.Message, r.Sandbox.ErrorCode = "", ""
		if err := f(r); err != nil {
			if errors.Is(err, errUnchanged) {
				return c.store.Get(ctx, id)
			}
			return &before, err
		}
		now := c.now()
		if to := r.Sandbox.State; to != from {
			if !from.CanTransition(to) {
				return &before, &TransitionError{From: from, To: to}
			}
			r.Sandbox.StateSince = now
		}
		e := newEvent(r, from, since, now)
		r.Seq = e.Seq
		err = c.store.Update(ctx, r, e)
		if err == nil {
			c.handOff()
			c.log.InfoContext(ctx, "sandbox changed", "sandbox", id, "seq", e.Seq, "from", from, "state", e.State, "reason", e.Reason, "host", e.Host)
			return r, nil
		}
		if !errors.Is(err, ErrConflict) || attempt == maxEdits {
			return &before, err
		}
		if err := sleep(ctx, jitter(5*time.Millisecond)); err != nil {
			return &before, err
		}
	}
}

// maxEdits bounds how often an edit is tried again; with it exhausted, far
// more processes than are useful are changing one record.
const maxEdits = 50

// owned guards f: it runs only while the record still belongs to the operation.
func owned(token string, f func(*Record) error) func(*Record) error {
	return func(r *Record) error {
		if r.Operation == nil || r.Operation.Token != token {
			return fmt.Errorf("%w: another process took the sandbox over; it is %s (%s)", ErrConflict, r.Sandbox.State, r.Sandbox.Reason)
		}
		return f(r)
	}
}

// set returns an edit that only moves the state.
func set(to State, reason Reason, message string) func(*Record) error {
	return func(r *Record) error {
		r.Sandbox.State, r.Sandbox.Reason, r.Sandbox.Message = to, reason, message
		return nil
	}
}

// newOperation claims a record for this process until the bound has passed.
func (c *Client) newOperation(kind string, bound time.Duration) *Operation {
	return &Operation{Kind: kind, Token: newID(), Process: currentProcess(), Deadline: c.now().Add(bound)}
}

var idEncoding = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)

// newID draws 20 characters, a letter first: about 99 random bits, so that the
// name of a neighbour's image cannot be guessed.
func newID() string {
	var b [12]byte
	_, _ = rand.Read(b[:])
	first, _ := rand.Int(rand.Reader, big.NewInt(26))
	return string(rune('a'+first.Int64())) + idEncoding.EncodeToString(b[:])[:19]
}

// ValidID reports whether id could be the id of a sandbox.
func ValidID(id string) bool {
	if len(id) != 20 || id[0] < 'a' || id[0] > 'z' {
		return false
	}
	return strings.Trim(id, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func jitter(d time.Duration) time.Duration {
	n, _ := rand.Int(rand.Reader, big.NewInt(int64(d)))
	return d/2 + time.Duration(n.Int64())
}
