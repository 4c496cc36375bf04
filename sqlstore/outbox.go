package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// ClaimEvents implements [sandboxer.Store]. Sandboxes come in the order in
// which they fell due.
func (s *Store) ClaimEvents(ctx context.Context, until time.Time, limit int) ([]sandboxer.Event, error) {
	var claimed []sandboxer.Event
	err := s.write(ctx, func(tx *sql.Tx) error {
		claimed = nil
		waiting, err := dueSandboxes(ctx, tx, time.Now(), limit)
		if err != nil {
			return err
		}
		for _, box := range waiting {
			if len(claimed) >= limit {
				break
			}
			events, err := documents[sandboxer.Event](ctx, tx, pendingEvents+" LIMIT $3", box.sandbox, box.delivered, limit-len(claimed))
			if err != nil {
				return err
			}
			last := box.delivered + int64(len(events))
			if _, err := tx.ExecContext(ctx, "UPDATE outbox SET claimed = $2, due = $3 WHERE sandbox_id = $1", box.sandbox, last, until.UnixMicro()); err != nil {
				return err
			}
			claimed = append(claimed, events...)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claimed, nil
}

// A box is how far the delivery of a sandbox's events has come.
type box struct {
	sandbox   string
	delivered int64
}

const dueQuery = "SELECT sandbox_id, delivered FROM outbox WHERE delivered < last AND due <= $1 ORDER BY due, sandbox_id LIMIT $2"

func dueSandboxes(ctx context.Context, tx *sql.Tx, now time.Time, limit int) ([]box, error) {
	rows, err := tx.QueryContext(ctx, dueQuery, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var waiting []box
	for rows.Next() {
		var b box
		if err := rows.Scan(&b.sandbox, &b.delivered); err != nil {
			return nil, err
		}
		waiting = append(waiting, b)
	}
	return waiting, rows.Err()
}

// AckEvents implements [sandboxer.Store]. It returns ErrNotFound for an unknown
// sandbox; events that do not exist yet are not marked.
func (s *Store) AckEvents(ctx context.Context, sandboxID string, seq int64) error {
	const ack = `UPDATE outbox SET
			delivered = CASE WHEN $2 <= delivered THEN delivered WHEN $2 < last THEN $2 ELSE last END,
			due = CASE WHEN $2 >= claimed THEN 0 ELSE due END,
			failures = 0
		WHERE sandbox_id = $1`
	return s.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, ack, sandboxID, seq)
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil || n > 0 {
			return err
		}
		return fmt.Errorf("sandbox %s: %w", sandboxID, sandboxer.ErrNotFound)
	})
}

// DelayEvents implements [sandboxer.Store], with [sandboxer.Backoff]. It
// returns ErrNotFound for an unknown sandbox.
func (s *Store) DelayEvents(ctx context.Context, sandboxID string, now time.Time) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		var failures int
		err := tx.QueryRowContext(ctx, "UPDATE outbox SET failures = failures + 1 WHERE sandbox_id = $1 RETURNING failures", sandboxID).Scan(&failures)
		if errors.Is(err, sql.ErrNoRows) {
			return fmt.Errorf("sandbox %s: %w", sandboxID, sandboxer.ErrNotFound)
		}
		if err != nil {
			return err
		}
		due := now.Add(sandboxer.Backoff(failures))
		_, err = tx.ExecContext(ctx, "UPDATE outbox SET due = $2 WHERE sandbox_id = $1", sandboxID, due.UnixMicro())
		return err
	})
}
