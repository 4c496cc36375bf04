package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"

	"github.com/sand-boxer/sandboxer"
)

// Everything that is so in SQLite and may be otherwise in another database is
// in this file. Statements elsewhere keep to what PostgreSQL takes as well:
// numbered parameters, BIGINT, RETURNING, partial indexes.

// busyTimeout is how long SQLite itself waits for a lock, polling.
const busyTimeout = time.Second

// open makes the file if there is none. It touches nothing in it yet.
func open(path string) (*Store, error) {
	if path == "" || path == ":memory:" {
		return nil, sandboxer.WithHint(fmt.Errorf("database path %q: %w: it is not a file", path, sandboxer.ErrInvalid),
			"use DefaultPath, or sandboxer.NewMemoryStore for a store that ends with the process")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := createPrivate(path); err != nil {
		return nil, sandboxer.WithHint(fmt.Errorf("make the sandbox database: %w", err), "let this user write to %s, or give another path", filepath.Dir(path))
	}
	s := &Store{path: path, patience: lockPatience}
	if s.reader, err = sql.Open("sqlite", source(path, "_query_only=1")); err != nil {
		return nil, err
	}
	if s.writer, err = sql.Open("sqlite", source(path, "_txlock=immediate")); err != nil {
		return nil, errors.Join(err, s.reader.Close())
	}
	const readers = 4
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	s.writer.SetMaxOpenConns(1)
	return s, nil
}

// source is the data source name. mode=rw never makes a file, which would get
// a mode by the umask; synchronous=FULL syncs every commit, fullfsync past the
// disk's cache on macOS; _dqs=0 makes a mistyped column an error.
func source(path, option string) string {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") { // a Windows drive
		slashed = "/" + slashed
	}
	u := url.URL{Scheme: "file", Path: slashed}
	u.RawQuery = fmt.Sprintf("mode=rw&_error_rc=1&_dqs=0&_busy_timeout=%d&_foreign_keys=1&_synchronous=FULL&_pragma=fullfsync(1)&%s",
		busyTimeout.Milliseconds(), option)
	return u.String()
}

// createPrivate makes an empty file with mode 0600 if there is none. The file
// appears under its name only when closed: on Unix, closing any descriptor of
// a file drops the locks that the same process holds on it, SQLite's included.
func createPrivate(path string) error {
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".new-*.db")
	if err != nil {
		return err
	}
	err = errors.Join(f.Chmod(0o600), f.Close())
	if err == nil {
		err = os.Link(f.Name(), path)
	}
	if errors.Is(err, fs.ErrExist) { // another process was faster
		err = nil
	}
	return errors.Join(err, os.Remove(f.Name()))
}

// useWAL lets readers and a writer work at the same time. The mode is kept in
// the file, so that mostly this changes nothing.
func (s *Store) useWAL(ctx context.Context) error {
	var mode string
	err := s.retry(ctx, func() error {
		return s.writer.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode)
	})
	if err != nil || mode == "wal" {
		return err
	}
	return sandboxer.WithHint(fmt.Errorf("%s: the file system cannot share the database between processes (journal mode %s)", s.path, mode),
		"put it on a local disk")
}

// querier is a database or a transaction.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// tables names all tables of the database.
func tables(ctx context.Context, q querier) ([]string, error) {
	rows, err := q.QueryContext(ctx, "SELECT name FROM sqlite_master WHERE type = 'table'")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var names []string
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}

// code is SQLite's result code, and without its extension; 0 for other errors.
func code(err error) (extended, primary int) {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return 0, 0
	}
	return e.Code(), e.Code() & 0xff
}

// busy reports that another process was in the way and the same will work later.
func busy(err error) bool {
	_, primary := code(err)
	return primary == sqlite3.SQLITE_BUSY || primary == sqlite3.SQLITE_PROTOCOL
}

// explain turns what SQLite says into what a person can act upon.
func (s *Store) explain(ctx context.Context, err error) error {
	extended, primary := code(err)
	stopped := primary == sqlite3.SQLITE_INTERRUPT || primary == sqlite3.SQLITE_BUSY || errors.Is(err, ctx.Err()) || errors.Is(err, sql.ErrTxDone)
	if ctx.Err() != nil && stopped {
		return fmt.Errorf("sandbox database: %w", context.Cause(ctx))
	}
	switch extended {
	case sqlite3.SQLITE_CONSTRAINT_PRIMARYKEY:
		return fmt.Errorf("sandbox id: %w", sandboxer.ErrExists)
	case sqlite3.SQLITE_CONSTRAINT_UNIQUE:
		return fmt.Errorf("idempotency key: %w", sandboxer.ErrExists)
	}
	dir := filepath.Dir(s.path)
	switch primary {
	case 0: // not SQLite's
		return err
	case sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT:
		return sandboxer.WithHint(fmt.Errorf("%s: %w: it is damaged or not a sandbox database: %w", s.path, sandboxer.ErrInvalid, err),
			"restore a copy, or move the file away together with its -wal and -shm: a new one is made, and reconcile finds the sandboxes that stand on the hosts")
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_PROTOCOL:
		return sandboxer.WithHint(fmt.Errorf("%s was locked by another process for %v: %w", s.path, s.patience, err),
			"see which process has the file open and whether it is stopped, then try again")
	case sqlite3.SQLITE_FULL:
		return sandboxer.WithHint(fmt.Errorf("%s: no space left: %w", s.path, err), "free some space in %s, then try again", dir)
	case sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_AUTH:
		return sandboxer.WithHint(fmt.Errorf("%s cannot be opened or written: %w", s.path, err), "let this user write to the file and to %s, or give another path", dir)
	case sqlite3.SQLITE_IOERR:
		return sandboxer.WithHint(fmt.Errorf("%s: %w", s.path, err), "check the disk below %s; a network file system cannot hold the database", dir)
	}
	return fmt.Errorf("%s: %w", s.path, err)
}
