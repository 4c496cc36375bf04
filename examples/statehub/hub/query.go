package hub

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// A filter selects sandboxes; zero fields match everything.
type filter struct {
	id, project, host, profile, state string
	registered                        *bool
	since                             time.Time // those that were not destroyed before
	after                             string    // those that come after this one
	limit                             int       // 0 is all
}

// where writes the condition, to be used with sandboxes as s and registrations as r.
func (f filter) where() (condition string, args []any) {
	parts := []string{"TRUE"}
	add := func(part string, values ...any) {
		parts, args = append(parts, part), append(args, values...)
	}
	for _, column := range []struct{ name, value string }{
		{"s.id", f.id}, {"s.project", f.project}, {"s.host", f.host}, {"s.profile", f.profile}, {"s.state", f.state},
	} {
		if column.value != "" {
			add(column.name+" = ?", column.value)
		}
	}
	if f.registered != nil {
		add("(r.sandbox_id IS NOT NULL AND r.deregistered IS NULL) = ?", *f.registered)
	}
	if !f.since.IsZero() {
		add("(s.state <> ? OR s.time >= ?)", string(sandboxer.StateDestroyed), f.since.UnixMicro())
	}
	if f.after != "" {
		add("(s.began, s.id) < (SELECT began, id FROM sandboxes WHERE id = ?)", f.after)
	}
	return strings.Join(parts, " AND "), args
}

const known = " FROM sandboxes s LEFT JOIN registrations r ON r.sandbox_id = s.id WHERE "

// A history is all that the hub holds of one sandbox.
type history struct {
	id         string
	seq        int64             // the highest number known of
	events     []sandboxer.Event // by number
	duplicates int
	registered *registered // nil if it never was
}

// A registered sandbox is one whose client said that it exists.
type registered struct {
	registration
	at, updated, ended time.Time // ended is zero while it is registered
}

// histories reads sandboxes, the newest first.
func (s *store) histories(ctx context.Context, f filter) ([]*history, error) {
	condition, args := f.where()
	query := "SELECT s.id, s.seq, r.document, r.registered, r.updated, r.deregistered" + known + condition + " ORDER BY s.began DESC, s.id DESC"
	if f.limit > 0 {
		query, args = query+" LIMIT ?", append(args, f.limit)
	}
	var found []*history
	err := s.each(ctx, query, args, func(rows *sql.Rows) error {
		h := &history{}
		var document sql.NullString
		var at, updated, ended sql.NullInt64
		if err := rows.Scan(&h.id, &h.seq, &document, &at, &updated, &ended); err != nil {
			return err
		}
		found = append(found, h)
		if !document.Valid {
			return nil
		}
		h.registered = &registered{at: micros(at), updated: micros(updated), ended: micros(ended)}
		h.registered.document = document.String
		return json.Unmarshal([]byte(document.String), &h.registered.registration)
	})
	if err != nil {
		return nil, err
	}
	return found, s.addEvents(ctx, found)
}

// addEvents reads the events of sandboxes. One that was stored after the
// sandboxes were read is seen or not; a history is whole either way.
func (s *store) addEvents(ctx context.Context, found []*history) error {
	ids, byID := make([]string, len(found)), make(map[string]*history, len(found))
	for i, h := range found {
		ids[i], byID[h.id] = h.id, h
	}
	list, err := json.Marshal(ids)
	if err != nil {
		return err
	}
	const query = `SELECT e.duplicates, e.document FROM json_each(?) AS id JOIN events e ON e.sandbox_id = id.value ORDER BY id.key, e.seq`
	return s.each(ctx, query, []any{string(list)}, func(rows *sql.Rows) error {
		var duplicates int
		var e sandboxer.Event
		if err := scanEvent(rows, &e, &duplicates); err != nil {
			return err
		}
		h := byID[e.SandboxID]
		h.events = append(h.events, e)
		h.seq = max(h.seq, e.Seq)
		h.duplicates += duplicates
		return nil
	})
}

// count is how many sandboxes there are.
func (s *store) count(ctx context.Context, f filter) (n int, err error) {
	condition, args := f.where()
	err = s.reader.QueryRowContext(ctx, "SELECT count(*)"+known+condition, args...).Scan(&n)
	return n, err
}

// used reads the complete histories of the sandboxes that were not destroyed
// before since.
func (s *store) used(ctx context.Context, since time.Time) (events []sandboxer.Event, err error) {
	condition, args := filter{since: since}.where()
	const query = "SELECT e.document FROM events e JOIN sandboxes s ON s.id = e.sandbox_id WHERE "
	err = s.each(ctx, query+condition, args, func(rows *sql.Rows) error {
		events = append(events, sandboxer.Event{})
		return scanEvent(rows, &events[len(events)-1])
	})
	return events, err
}

// An eventFilter selects events; zero fields match everything.
type eventFilter struct {
	sandbox, project string
	since            time.Time
	afterSandbox     string // with afterSeq: those that come after this event
	afterSeq         int64
	limit            int
}

// documents reads events as they were sent, by sandbox and number.
func (s *store) documents(ctx context.Context, f eventFilter) (documents []json.RawMessage, err error) {
	query := "SELECT e.document FROM events e WHERE (e.sandbox_id, e.seq) > (?, ?)"
	args := []any{f.afterSandbox, f.afterSeq}
	if f.sandbox != "" {
		query, args = query+" AND e.sandbox_id = ?", append(args, f.sandbox)
	}
	if f.project != "" {
		query, args = query+" AND e.sandbox_id IN (SELECT id FROM sandboxes WHERE project = ?)", append(args, f.project)
	}
	if !f.since.IsZero() {
		query, args = query+" AND e.time >= ?", append(args, f.since.UnixMicro())
	}
	err = s.each(ctx, query+" ORDER BY e.sandbox_id, e.seq LIMIT ?", append(args, f.limit), func(rows *sql.Rows) error {
		var document string
		err := rows.Scan(&document)
		documents = append(documents, json.RawMessage(document))
		return err
	})
	return documents, err
}

// each runs a query and calls f with every row.
func (s *store) each(ctx context.Context, query string, args []any, f func(*sql.Rows) error) error {
	rows, err := s.reader.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	for rows.Next() {
		if err := f(rows); err != nil {
			return errors.Join(err, rows.Close())
		}
	}
	return errors.Join(rows.Err(), rows.Close())
}

// scanEvent reads a row whose last column is an event, after others.
func scanEvent(rows *sql.Rows, e *sandboxer.Event, others ...any) error {
	var document []byte
	if err := rows.Scan(append(others, &document)...); err != nil {
		return err
	}
	if err := json.Unmarshal(document, e); err != nil {
		return fmt.Errorf("a stored event cannot be read: %w", err)
	}
	return nil
}

func micros(n sql.NullInt64) time.Time {
	if !n.Valid {
		return time.Time{}
	}
	return time.UnixMicro(n.Int64).UTC()
}
