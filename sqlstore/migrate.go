package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"slices"

	"github.com/sand-boxer/sandboxer"
)

//go:embed schema/*.sql
var schemaFiles embed.FS

// schema returns the steps from an empty database to the present schema. Step
// n makes version n. A published step never changes; a change of a document
// that an older program must not write over is a step, too.
func schema() ([]string, error) {
	names, err := fs.Glob(schemaFiles, "schema/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]string, 0, len(names))
	for _, name := range names {
		text, err := schemaFiles.ReadFile(name)
		if err != nil {
			return nil, err
		}
		steps = append(steps, string(text))
	}
	return steps, nil
}

// migrate applies the missing steps in one transaction: all or none.
func (s *Store) migrate(ctx context.Context, steps []string) error {
	return s.write(ctx, func(tx *sql.Tx) error {
		// looked at now that other processes wait: one may have been faster
		version, err := s.version(ctx, tx, len(steps))
		if err != nil || version == len(steps) {
			return err
		}
		for n := version; n < len(steps); n++ {
			if _, err := tx.ExecContext(ctx, steps[n]); err != nil {
				return fmt.Errorf("schema step %d: %w", n+1, err)
			}
		}
		if _, err := tx.ExecContext(ctx, "DELETE FROM sandboxer_schema"); err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "INSERT INTO sandboxer_schema (version) VALUES ($1)", len(steps))
		return err
	})
}

// version is 0 for an empty database. One that is not ours, or ahead of what
// this program knows, is an error.
func (s *Store) version(ctx context.Context, q querier, known int) (int, error) {
	names, err := tables(ctx, q)
	if err != nil || len(names) == 0 {
		return 0, err
	}
	if !slices.Contains(names, "sandboxer_schema") {
		return 0, sandboxer.WithHint(fmt.Errorf("%s: %w: it is the database of another program", s.path, sandboxer.ErrInvalid),
			"give another path; a missing file is made")
	}
	var version int
	if err := q.QueryRowContext(ctx, "SELECT version FROM sandboxer_schema").Scan(&version); err != nil {
		return 0, err
	}
	if version > known {
		return 0, sandboxer.WithHint(fmt.Errorf("%s: %w: a newer version of this program wrote it (schema %d, known here are 1 to %d)", s.path, sandboxer.ErrInvalid, version, known),
			"update this program, or give it another path")
	}
	return version, nil
}
