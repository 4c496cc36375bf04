package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// Get implements [sandboxer.Store].
func (s *Store) Get(ctx context.Context, id string) (*sandboxer.Record, error) {
	return s.one(ctx, "sandbox "+id, "SELECT document FROM sandboxes WHERE id = $1", id)
}

// GetByKey implements [sandboxer.Store].
func (s *Store) GetByKey(ctx context.Context, project, key string) (*sandboxer.Record, error) {
	return s.one(ctx, "idempotency key", "SELECT document FROM sandboxes WHERE project = $1 AND idempotency_key = $2", project, key)
}

func (s *Store) one(ctx context.Context, what, query string, args ...any) (*sandboxer.Record, error) {
	found, err := read[*sandboxer.Record](ctx, s, query, args...)
	if err != nil {
		return nil, err
	}
	if len(found) == 0 {
		return nil, fmt.Errorf("%s: %w", what, sandboxer.ErrNotFound)
	}
	return found[0], nil
}

// List implements [sandboxer.Store].
func (s *Store) List(ctx context.Context, f sandboxer.Filter) ([]*sandboxer.Record, error) {
	where, args := conditions(f)
	return read[*sandboxer.Record](ctx, s, "SELECT document FROM sandboxes"+where+" ORDER BY created_at, id", args...)
}

// Events implements [sandboxer.Store].
func (s *Store) Events(ctx context.Context, sandboxID string, after int64) ([]sandboxer.Event, error) {
	if sandboxID == "" {
		return read[sandboxer.Event](ctx, s, "SELECT document FROM events WHERE seq > $1 ORDER BY time, sandbox_id, seq", after)
	}
	return read[sandboxer.Event](ctx, s, pendingEvents, sandboxID, after)
}

// EventsAfter implements [sandboxer.EventPager].
func (s *Store) EventsAfter(ctx context.Context, after sandboxer.EventPosition, project string, limit int) ([]sandboxer.Event, error) {
	if rest := after.Time.Nanosecond() % 1000; rest > 0 { // stored times are whole microseconds
		after = sandboxer.EventPosition{Time: after.Time.Add(time.Duration(1000 - rest))}
	}
	query := "SELECT document FROM events WHERE (time, sandbox_id, seq) > ($1, $2, $3)"
	args := []any{after.Time.UnixMicro(), after.SandboxID, after.Seq, limit}
	if project != "" {
		query += " AND sandbox_id IN (SELECT id FROM sandboxes WHERE project = $5)"
		args = append(args, project)
	}
	return read[sandboxer.Event](ctx, s, query+" ORDER BY time, sandbox_id, seq LIMIT $4", args...)
}

const pendingEvents = "SELECT document FROM events WHERE sandbox_id = $1 AND seq > $2 ORDER BY seq"

// conditions is the WHERE clause of a filter, or nothing.
func conditions(f sandboxer.Filter) (where string, args []any) {
	var all []string
	arg := func(v string) string {
		args = append(args, v)
		return "$" + strconv.Itoa(len(args))
	}
	equal := func(column, value string) {
		if value != "" {
			all = append(all, column+" = "+arg(value))
		}
	}
	if len(f.States) > 0 {
		states := make([]string, 0, len(f.States))
		for _, state := range f.States {
			states = append(states, arg(string(state)))
		}
		all = append(all, "state IN ("+strings.Join(states, ", ")+")")
	}
	equal("project", f.Project)
	equal("actor_type", string(f.ActorType))
	equal("profile", f.Profile)
	equal("host", f.Host)
	for _, name := range slices.Sorted(maps.Keys(f.Labels)) {
		all = append(all, "id IN (SELECT sandbox_id FROM labels WHERE name = "+arg(name)+" AND value = "+arg(f.Labels[name])+")")
	}
	if len(all) == 0 {
		return "", nil
	}
	return " WHERE " + strings.Join(all, " AND "), args
}

// read decodes the documents that a query selects.
func read[T any](ctx context.Context, s *Store, query string, args ...any) (found []T, err error) {
	err = s.retry(ctx, func() error {
		found, err = documents[T](ctx, s.reader, query, args...)
		return err
	})
	return found, err
}

func documents[T any](ctx context.Context, q querier, query string, args ...any) ([]T, error) {
	rows, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var found []T
	for rows.Next() {
		var text sql.RawBytes
		if err := rows.Scan(&text); err != nil {
			return nil, err
		}
		var document T
		if err := json.Unmarshal(text, &document); err != nil {
			return nil, fmt.Errorf("a stored document: %w: %w", sandboxer.ErrInvalid, err)
		}
		found = append(found, document)
	}
	return found, rows.Err()
}
