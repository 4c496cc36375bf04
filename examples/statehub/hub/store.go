package hub

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

	_ "modernc.org/sqlite" // the driver "sqlite"

	"github.com/sand-boxer/sandboxer"
)

// schema is the first version. Documents are kept as they were sent, with
// whatever keys a newer client adds; columns are what is searched for. Times
// are microseconds since 1970.
const schema = `
CREATE TABLE events (
	sandbox_id TEXT NOT NULL,
	seq        INTEGER NOT NULL,
	time       INTEGER NOT NULL,
	duplicates INTEGER NOT NULL DEFAULT 0, -- how often it came again
	document   TEXT NOT NULL,
	PRIMARY KEY (sandbox_id, seq)
);
CREATE TABLE registrations (
	sandbox_id   TEXT PRIMARY KEY,
	seq          INTEGER NOT NULL,
	registered   INTEGER NOT NULL,
	updated      INTEGER NOT NULL,
	deregistered INTEGER, -- NULL while registered
	document     TEXT NOT NULL
);
-- One row for each sandbox, with what its newest event or registration says.
CREATE TABLE sandboxes (
	id      TEXT PRIMARY KEY,
	seq     INTEGER NOT NULL,
	time    INTEGER NOT NULL,
	began   INTEGER NOT NULL,
	state   TEXT NOT NULL,
	project TEXT NOT NULL,
	host    TEXT NOT NULL,
	profile TEXT NOT NULL
);
CREATE INDEX sandboxes_by_age ON sandboxes (began, id);
PRAGMA user_version = 1;`

const schemaVersion = 1

// A store is the hub's database.
type store struct {
	path   string
	reader *sql.DB // sees what is committed, never waits for the writer
	writer *writer
}

func openStore(ctx context.Context, path string) (*store, error) {
	if path == "" || path == ":memory:" {
		return nil, sandboxer.WithHint(fmt.Errorf("database path %q: %w: it is not a file", path, sandboxer.ErrInvalid), "name a file; it is made if there is none")
	}
	path, err := filepath.Abs(path)
	if err != nil {
		return nil, err
	}
	if err := createPrivate(path); err != nil {
		return nil, sandboxer.WithHint(fmt.Errorf("make the hub's database: %w", err), "let this user write to %s, or give another path", filepath.Dir(path))
	}
	s := &store{path: path}
	if s.reader, err = sql.Open("sqlite", source(path, "_query_only=1")); err != nil {
		return nil, err
	}
	const readers = 4
	s.reader.SetMaxOpenConns(readers)
	s.reader.SetMaxIdleConns(readers)
	db, err := sql.Open("sqlite", source(path, "_txlock=immediate"))
	if err != nil {
		return nil, errors.Join(err, s.reader.Close())
	}
	db.SetMaxOpenConns(1)
	if err := s.prepare(ctx, db); err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", path, err), db.Close(), s.reader.Close())
	}
	return s, nil
}

// source is the data source name. synchronous=FULL syncs every commit,
// fullfsync past the disk's cache on macOS. The hub is meant to be alone with
// its file; five seconds are for a look by another program.
func source(path, option string) string {
	slashed := filepath.ToSlash(path)
	if !strings.HasPrefix(slashed, "/") { // a Windows drive
		slashed = "/" + slashed
	}
	u := url.URL{Scheme: "file", Path: slashed}
	u.RawQuery = "mode=rw&_error_rc=1&_dqs=0&_busy_timeout=5000&_synchronous=FULL&_pragma=fullfsync(1)&" + option
	return u.String()
}

// createPrivate makes an empty file with mode 0600 if there is none.
func createPrivate(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// prepare looks before it changes anything: the file may be somebody else's.
func (s *store) prepare(ctx context.Context, db *sql.DB) error {
	var version, tables int
	if err := s.reader.QueryRowContext(ctx, "PRAGMA user_version").Scan(&version); err != nil {
		return sandboxer.WithHint(err, "see that it is the hub's file and that this user may read and write it, or give another path")
	}
	if err := s.reader.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	if version > schemaVersion || version == 0 && tables > 0 {
		return sandboxer.WithHint(fmt.Errorf("%w: it is the database of another program or of a newer hub", sandboxer.ErrInvalid), "give another path; a missing file is made")
	}
	var mode string
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode = WAL").Scan(&mode); err != nil {
		return err
	}
	if mode != "wal" {
		return sandboxer.WithHint(fmt.Errorf("the file system cannot hold a write-ahead log (journal mode %s)", mode), "put it on a local disk")
	}
	if version == 0 {
		if err := createTables(ctx, db); err != nil {
			return err
		}
	}
	var err error
	s.writer, err = newWriter(ctx, db)
	return err
}

func createTables(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, schema); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

func (s *store) close() error { return errors.Join(s.reader.Close(), s.writer.close()) }
