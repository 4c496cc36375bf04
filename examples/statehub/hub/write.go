package hub

import (
	"context"
	"database/sql"
	"errors"
	"time"
)

// statements are compiled once.
type statements struct {
	event, again                 *sql.Stmt
	register, update, deregister *sql.Stmt
	sandbox                      *sql.Stmt
}

func (s *statements) prepare(ctx context.Context, db *sql.DB) error {
	for _, p := range []struct {
		statement **sql.Stmt
		text      string
	}{
		{&s.event, "INSERT INTO events (sandbox_id, seq, time, document) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"},
		{&s.again, "UPDATE events SET duplicates = duplicates + 1 WHERE sandbox_id = $1 AND seq = $2"},
		{&s.register, `INSERT INTO registrations (sandbox_id, seq, registered, updated, document) VALUES ($1, $2, $3, $3, $4)
			ON CONFLICT DO NOTHING`},
		// one that comes again does not undo what was deregistered since
		{&s.update, `UPDATE registrations SET seq = $2, updated = $3, document = $4,
				deregistered = CASE WHEN $2 > seq THEN NULL ELSE deregistered END
			WHERE sandbox_id = $1 AND seq <= $2`},
		{&s.deregister, "UPDATE registrations SET deregistered = ifnull(deregistered, $2) WHERE sandbox_id = $1"},
		{&s.sandbox, `INSERT INTO sandboxes (id, seq, time, began, state, project, host, profile) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
			ON CONFLICT (id) DO UPDATE SET seq = excluded.seq, time = excluded.time, began = min(began, excluded.began),
				state = excluded.state, project = excluded.project, host = excluded.host, profile = excluded.profile
			WHERE excluded.seq > seq`},
	} {
		statement, err := db.PrepareContext(ctx, p.text)
		if err != nil {
			return errors.Join(err, s.close())
		}
		*p.statement = statement
	}
	return nil
}

func (s *statements) close() error {
	var problems []error
	for _, statement := range []*sql.Stmt{s.event, s.again, s.register, s.update, s.deregister, s.sandbox} {
		if statement != nil {
			problems = append(problems, statement.Close())
		}
	}
	return errors.Join(problems...)
}

// A transaction is a part of what is written together.
type transaction struct {
	*sql.Tx
	statements *statements
}

// exec reports whether a row was changed.
func (t *transaction) exec(statement *sql.Stmt, args ...any) (bool, error) {
	done, err := t.Stmt(statement).Exec(args...)
	if err != nil {
		return false, err
	}
	n, err := done.RowsAffected()
	return n > 0, err
}

// addEvent stores an event unless it is stored already.
func (s *store) addEvent(e *event) (duplicate bool, err error) {
	err = s.writer.commit(func(t *transaction) error {
		fresh, err := t.exec(t.statements.event, e.SandboxID, e.Seq, e.Time.UnixMicro(), e.document)
		if duplicate = !fresh; err != nil {
			return err
		}
		if duplicate {
			_, err = t.exec(t.statements.again, e.SandboxID, e.Seq)
			return err
		}
		return t.note(e.summary())
	})
	return duplicate, err
}

// register stores a registration unless a newer one is stored already.
func (s *store) register(r *registration, now time.Time) (fresh, changed bool, err error) {
	err = s.writer.commit(func(t *transaction) error {
		args := []any{r.SandboxID, r.Seq, now.UnixMicro(), r.document}
		fresh, err = t.exec(t.statements.register, args...)
		if changed = fresh; err == nil && !fresh {
			changed, err = t.exec(t.statements.update, args...)
		}
		if err != nil || !changed {
			return err
		}
		return t.note(r.summary())
	})
	return fresh, changed, err
}

// deregister keeps the row, and the time of the first call.
func (s *store) deregister(id string, now time.Time) (known bool, err error) {
	err = s.writer.commit(func(t *transaction) error {
		known, err = t.exec(t.statements.deregister, id, now.UnixMicro())
		return err
	})
	return known, err
}

// A summary is what sandboxes are searched by.
type summary struct {
	id                            string
	seq                           int64
	time, began                   time.Time
	state, project, host, profile string
}

// note makes the sandbox's row follow what is newer than it.
func (t *transaction) note(s summary) error {
	_, err := t.exec(t.statements.sandbox, s.id, s.seq, s.time.UnixMicro(), s.began.UnixMicro(), s.state, s.project, s.host, s.profile)
	return err
}
