package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"

	"github.com/sand-boxer/sandboxer"
)

// Create implements [sandboxer.Store].
func (s *Store) Create(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	created := *r
	created.Revision = 1
	if r.Seq != int64(len(events)) {
		return gap(r, 0)
	}
	row, err := rowOf(&created, events)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(tx *sql.Tx) error {
		const insert = `INSERT INTO sandboxes
			(id, revision, seq, state, project, actor_type, profile, host, idempotency_key, created_at, expires_at, document)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`
		if _, err := tx.ExecContext(ctx, insert, row.columns...); err != nil {
			return err
		}
		const fresh = "INSERT INTO outbox (sandbox_id, last, delivered, claimed, failures, due) VALUES ($1, $2, 0, 0, 0, 0)"
		if _, err := tx.ExecContext(ctx, fresh, row.id, r.Seq); err != nil {
			return err
		}
		return row.insertParts(ctx, tx)
	})
	if err != nil {
		return err
	}
	r.Revision = created.Revision
	return nil
}

// Update implements [sandboxer.Store]. A project and key that another record
// has are ErrExists.
func (s *Store) Update(ctx context.Context, r *sandboxer.Record, events ...sandboxer.Event) error {
	updated := *r
	updated.Revision++
	row, err := rowOf(&updated, events)
	if err != nil {
		return err
	}
	before := r.Seq - int64(len(events))
	err = s.write(ctx, func(tx *sql.Tx) error {
		const update = `UPDATE sandboxes
			SET revision = $2, seq = $3, state = $4, project = $5, actor_type = $6, profile = $7, host = $8,
				idempotency_key = $9, created_at = $10, expires_at = $11, document = $12
			WHERE id = $1 AND revision = $13 AND seq = $14`
		done, err := tx.ExecContext(ctx, update, append(row.columns, r.Revision, before)...)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return notUpdated(ctx, tx, r)
		}
		if _, err := tx.ExecContext(ctx, "UPDATE outbox SET last = $2 WHERE sandbox_id = $1", row.id, r.Seq); err != nil {
			return err
		}
		return row.insertParts(ctx, tx)
	})
	if err != nil {
		return err
	}
	r.Revision = updated.Revision
	return nil
}

// notUpdated says why no row was r's.
func notUpdated(ctx context.Context, tx *sql.Tx, r *sandboxer.Record) error {
	var revision, seq int64
	err := tx.QueryRowContext(ctx, "SELECT revision, seq FROM sandboxes WHERE id = $1", r.Sandbox.ID).Scan(&revision, &seq)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("sandbox %s: %w", r.Sandbox.ID, sandboxer.ErrNotFound)
	case err != nil:
		return err
	case revision != r.Revision:
		return fmt.Errorf("sandbox %s was changed by another process: %w", r.Sandbox.ID, sandboxer.ErrConflict)
	}
	return gap(r, seq)
}

// gap refuses events that do not continue a sandbox's numbers after last.
func gap(r *sandboxer.Record, last int64) error {
	return fmt.Errorf("sandbox %s: its new events do not lead from number %d to %d: %w", r.Sandbox.ID, last, r.Seq, sandboxer.ErrInvalid)
}

// A row is a record with its new events in the form of the tables.
type row struct {
	id      string
	columns []any // as in the INSERT of Create
	labels  map[string]string
	events  [][]any
}

// rowOf refuses events that are not numbered up to r.Seq.
func rowOf(r *sandboxer.Record, events []sandboxer.Event) (*row, error) {
	s := &r.Sandbox
	document, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("sandbox %s: %w: %w", s.ID, sandboxer.ErrInvalid, err)
	}
	key := sql.NullString{String: r.Key, Valid: r.Key != ""}
	out := &row{id: s.ID, labels: s.Labels, columns: []any{
		s.ID, r.Revision, r.Seq, string(s.State), s.Consumer.Project, string(s.Consumer.ActorType), s.Profile.ID, s.Host,
		key, s.CreatedAt.UnixMicro(), s.ExpiresAt.UnixMicro(), string(document),
	}}
	before := r.Seq - int64(len(events))
	for i, e := range events {
		if e.SandboxID != s.ID || e.Seq != before+int64(i)+1 {
			return nil, gap(r, before)
		}
		document, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("event %s: %w: %w", e.ID, sandboxer.ErrInvalid, err)
		}
		out.events = append(out.events, []any{e.SandboxID, e.Seq, e.Time.UnixMicro(), string(document)})
	}
	return out, nil
}

// insertParts adds the events and makes the stored labels those of the row.
func (r *row) insertParts(ctx context.Context, tx *sql.Tx) error {
	for _, e := range r.events {
		if _, err := tx.ExecContext(ctx, "INSERT INTO events (sandbox_id, seq, time, document) VALUES ($1, $2, $3, $4)", e...); err != nil {
			return err
		}
	}
	stored, err := storedLabels(ctx, tx, r.id)
	if err != nil || maps.Equal(stored, r.labels) {
		return err
	}
	if _, err := tx.ExecContext(ctx, "DELETE FROM labels WHERE sandbox_id = $1", r.id); err != nil {
		return err
	}
	for name, value := range r.labels {
		if _, err := tx.ExecContext(ctx, "INSERT INTO labels (sandbox_id, name, value) VALUES ($1, $2, $3)", r.id, name, value); err != nil {
			return err
		}
	}
	return nil
}

func storedLabels(ctx context.Context, tx *sql.Tx, id string) (map[string]string, error) {
	rows, err := tx.QueryContext(ctx, "SELECT name, value FROM labels WHERE sandbox_id = $1", id)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	labels := map[string]string{}
	for rows.Next() {
		var name, value string
		if err := rows.Scan(&name, &value); err != nil {
			return nil, err
		}
		labels[name] = value
	}
	return labels, rows.Err()
}
