package hub

import (
	"context"
	"database/sql"
	"errors"
	"sync"
)

// A writer makes one durable transaction of what concurrent requests write.
// There is no goroutine of its own: of the requests that wait, the one whose
// turn it is commits for all of them.
type writer struct {
	db         *sql.DB // one connection
	statements statements
	turn       chan struct{} // holds a token while a transaction is under way

	mu      sync.Mutex
	waiting []*write
}

// A write is one request's part of a transaction.
type write struct {
	do   func(*transaction) error
	done chan struct{} // closed when err is final
	err  error
}

func newWriter(ctx context.Context, db *sql.DB) (*writer, error) {
	w := &writer{db: db, turn: make(chan struct{}, 1)}
	return w, w.statements.prepare(ctx, db)
}

func (w *writer) close() error {
	w.turn <- struct{}{} // what is under way ends first
	return errors.Join(w.statements.close(), w.db.Close())
}

// commit runs do in a transaction that others may share, and returns when it
// is on the disk. An error of any part is the error of all: only the database
// itself fails here, since what is written was judged before.
func (w *writer) commit(do func(*transaction) error) error {
	mine := &write{do: do, done: make(chan struct{})}
	w.mu.Lock()
	w.waiting = append(w.waiting, mine)
	w.mu.Unlock()
	select {
	case <-mine.done:
		return mine.err
	case w.turn <- struct{}{}:
		defer func() { <-w.turn }()
	}
	// whoever had the turn before may have done mine, too; then this does others'
	w.mu.Lock()
	batch := w.waiting
	w.waiting = nil
	w.mu.Unlock()
	if len(batch) > 0 {
		err := w.run(batch)
		for _, b := range batch {
			b.err = err
			close(b.done)
		}
	}
	<-mine.done
	return mine.err
}

// run ends no sooner because a requester has left: the others have not.
func (w *writer) run(batch []*write) error {
	ctx := context.Background()
	tx, err := w.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	t := &transaction{Tx: tx, statements: &w.statements}
	for _, b := range batch {
		if err := b.do(t); err != nil {
			return errors.Join(err, tx.Rollback())
		}
	}
	return tx.Commit()
}
