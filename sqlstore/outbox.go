package sqlstore

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/sand-boxer/sandboxer"
)

// ClaimEvents implements [sandboxer.Store]. Sandboxes come in the order in
// which they fell due.
func (s *Store) ClaimEvents(ctx context.Context, until time.Time, limit int) ([]sandboxer.Claim, error) {
	var claims []sandboxer.Claim
	err := s.write(ctx, func(tx *sql.Tx) error {
		claims = nil
		waiting, err := dueSandboxes(ctx, tx, time.Now(), limit)
		if err != nil {
			return err
		}
		left := limit
		for _, box := range waiting {
			if left <= 0 {
				break
			}
			events, err := documents[sandboxer.Event](ctx, tx, pendingEvents+" LIMIT $3", box.sandbox, box.delivered, left)
			if err != nil {
				return err
			}
			last := box.delivered + int64(len(events))
			if _, err := tx.ExecContext(ctx, "UPDATE outbox SET claimed = $2, due = $3 WHERE sandbox_id = $1", box.sandbox, last, until.UnixMicro()); err != nil {
				return err
			}
			left -= len(events)
			claims = append(claims, sandboxer.Claim{SandboxID: box.sandbox, Until: until, Events: events, Rewound: moment(box.rewound)})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return claims, nil
}

// A box is how far the delivery of a sandbox's events has come.
type box struct {
	sandbox            string
	delivered, rewound int64
}

const dueQuery = "SELECT sandbox_id, delivered, rewound FROM outbox WHERE delivered < last AND due <= $1 ORDER BY due, sandbox_id LIMIT $2"

func dueSandboxes(ctx context.Context, tx *sql.Tx, now time.Time, limit int) ([]box, error) {
	rows, err := tx.QueryContext(ctx, dueQuery, now.UnixMicro(), limit)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var waiting []box
	for rows.Next() {
		var b box
		if err := rows.Scan(&b.sandbox, &b.delivered, &b.rewound); err != nil {
			return nil, err
		}
		waiting = append(waiting, b)
	}
	return waiting, rows.Err()
}

// AckEvents implements [sandboxer.Store]. It returns ErrNotFound for an unknown
// sandbox; events that do not exist yet are not marked.
func (s *Store) AckEvents(ctx context.Context, c sandboxer.Claim, seq int64) error {
	return s.write(ctx, func(tx *sql.Tx) error { return ack(ctx, tx, c, seq) })
}

func ack(ctx context.Context, tx *sql.Tx, c sandboxer.Claim, seq int64) error {
	const ack = `UPDATE outbox SET
			delivered = CASE WHEN $3 <= delivered THEN delivered WHEN $3 < last THEN $3 ELSE last END,
			due = CASE WHEN $3 >= claimed THEN 0 ELSE due END,
			failures = 0, reason = ''
		WHERE sandbox_id = $1 AND due = $2`
	done, err := tx.ExecContext(ctx, ack, c.SandboxID, c.Until.UnixMicro(), seq)
	if err != nil {
		return err
	}
	if n, err := done.RowsAffected(); err != nil || n > 0 {
		return err
	}
	return notClaimed(ctx, tx, c)
}

// notClaimed says why no outbox was the claim's.
func notClaimed(ctx context.Context, tx *sql.Tx, c sandboxer.Claim) error {
	var due int64
	err := tx.QueryRowContext(ctx, "SELECT due FROM outbox WHERE sandbox_id = $1", c.SandboxID).Scan(&due)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return fmt.Errorf("sandbox %s: %w", c.SandboxID, sandboxer.ErrNotFound)
	case err != nil:
		return err
	}
	return fmt.Errorf("events of sandbox %s: %w: the claim on them is over", c.SandboxID, sandboxer.ErrConflict)
}

// BuryEvent implements [sandboxer.Store]. An event that is delivered already
// does not become a dead letter.
func (s *Store) BuryEvent(ctx context.Context, c sandboxer.Claim, seq int64, reason string, at time.Time) error {
	const bury = `INSERT INTO dead_letters (sandbox_id, seq, reason, since)
		SELECT sandbox_id, $3, $4, $5 FROM outbox WHERE sandbox_id = $1 AND due = $2 AND delivered < $3 AND last >= $3`
	return s.write(ctx, func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, bury, c.SandboxID, c.Until.UnixMicro(), seq, reason, at.UnixMicro()); err != nil {
			return err
		}
		return ack(ctx, tx, c, seq)
	})
}

// DelayEvents implements [sandboxer.Store]. It returns ErrNotFound for an
// unknown sandbox.
func (s *Store) DelayEvents(ctx context.Context, c sandboxer.Claim, reason string, due func(failures int) time.Time) error {
	const count = `UPDATE outbox SET
			failures = CASE WHEN $3 = '' THEN failures ELSE failures + 1 END,
			reason = CASE WHEN $3 = '' THEN reason ELSE $3 END
		WHERE sandbox_id = $1 AND due = $2 RETURNING failures`
	return s.write(ctx, func(tx *sql.Tx) error {
		var failures int
		err := tx.QueryRowContext(ctx, count, c.SandboxID, c.Until.UnixMicro(), reason).Scan(&failures)
		if errors.Is(err, sql.ErrNoRows) {
			return notClaimed(ctx, tx, c)
		}
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE outbox SET due = $2 WHERE sandbox_id = $1", c.SandboxID, due(failures).UnixMicro())
		return err
	})
}

// RewindEvents implements [sandboxer.Store].
func (s *Store) RewindEvents(ctx context.Context, sandboxID string, seq int64, at time.Time) error {
	const rewind = `UPDATE outbox SET
			delivered = CASE WHEN $2 > delivered THEN delivered WHEN $2 < 1 THEN 0 ELSE $2 - 1 END,
			due = 0, failures = 0, reason = '', rewound = $3
		WHERE sandbox_id = $1`
	return s.write(ctx, func(tx *sql.Tx) error {
		done, err := tx.ExecContext(ctx, rewind, sandboxID, seq, at.UnixMicro())
		if err != nil {
			return err
		}
		if n, err := done.RowsAffected(); err != nil {
			return err
		} else if n == 0 {
			return fmt.Errorf("sandbox %s: %w", sandboxID, sandboxer.ErrNotFound)
		}
		_, err = tx.ExecContext(ctx, "DELETE FROM dead_letters WHERE sandbox_id = $1 AND seq >= $2", sandboxID, seq)
		return err
	})
}

// Undelivered implements [sandboxer.Store].
func (s *Store) Undelivered(ctx context.Context, sandboxID string) (list []sandboxer.Undelivered, err error) {
	const query = `SELECT e.document, d.seq IS NOT NULL, COALESCE(d.reason, o.reason), COALESCE(d.since, 0), o.failures, o.due
		FROM outbox o JOIN events e ON e.sandbox_id = o.sandbox_id
		LEFT JOIN dead_letters d ON d.sandbox_id = e.sandbox_id AND d.seq = e.seq
		WHERE (e.seq > o.delivered OR d.seq IS NOT NULL) AND ($1 = '' OR o.sandbox_id = $1)
		ORDER BY e.sandbox_id, e.seq`
	err = s.retry(ctx, func() error {
		list, err = undelivered(ctx, s.reader, query, sandboxID)
		return err
	})
	return list, err
}

func undelivered(ctx context.Context, q querier, query, sandboxID string) ([]sandboxer.Undelivered, error) {
	rows, err := q.QueryContext(ctx, query, sandboxID)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var list []sandboxer.Undelivered
	for rows.Next() {
		var document, reason string
		var dead bool
		var since, due int64
		var failures int
		if err := rows.Scan(&document, &dead, &reason, &since, &failures, &due); err != nil {
			return nil, err
		}
		u := sandboxer.Undelivered{Dead: dead, Reason: reason}
		if err := json.Unmarshal([]byte(document), &u.Event); err != nil {
			return nil, fmt.Errorf("a stored event: %w: %w", sandboxer.ErrInvalid, err)
		}
		if dead {
			u.DeadSince = moment(since)
		} else {
			u.Failures, u.DueAt = failures, moment(due)
		}
		list = append(list, u)
	}
	return list, rows.Err()
}

// moment is a stored time; 0 is none.
func moment(micros int64) time.Time {
	if micros == 0 {
		return time.Time{}
	}
	return time.UnixMicro(micros).UTC()
}
