// Package sqlite keeps what sessions remember in an SQLite file, so that it survives the
// Go process. It needs no C compiler.
package sqlite

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/status"
)

// Store is a [dspex.Store] in a file. Open one with [Open] and give it to
// [dspex.Config].Store; close it after the Runtime.
//
// Several processes of one machine may share a file; a network file system must not hold
// it. Every method waits up to 5 s for another process that writes.
type Store struct {
	db *sql.DB // of one connection: SQLite has one writer, and waiting here is fair
}

var _ dspex.Store = (*Store)(nil)

// Open opens the store in the file at path, made with mode 0600 if there is none; its
// directory must exist. Beside it SQLite keeps two files with the endings -wal and -shm.
//
// Errors: [dspex.CodeInvalidArgument] for a file that is not such a store,
// [dspex.CodeUnsupported] for one that a later version has written, and
// [dspex.CodeUnavailable] for one that is damaged or cannot be opened or written. The file
// is left as it was then.
func Open(ctx context.Context, path string) (*Store, error) {
	if err := prepare(path); err != nil {
		return nil, err
	}
	name, err := source(path)
	if err != nil {
		return nil, err
	}
	db, err := sql.Open("sqlite", name)
	if err != nil {
		return nil, unusable(path, err)
	}
	db.SetMaxOpenConns(1)
	if err := migrate(ctx, db, path); err != nil {
		_ = db.Close() // why it could not be used says more
		return nil, err
	}
	return &Store{db: db}, nil
}

// Close closes the file. Nothing is lost: what a method has returned from is kept.
func (s *Store) Close() error {
	if err := s.db.Close(); err != nil {
		return status.Wrap(status.Unavailable, "store", err, "the store could not be closed: %v", err)
	}
	return nil
}

// state is what the column of that name holds, as JSON.
type state struct {
	Values  map[string]json.RawMessage `json:"values,omitempty"`
	History []json.RawMessage          `json:"history,omitempty"`
}

// querier is a database or a transaction.
type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func read(ctx context.Context, q querier, id string) (*dspex.SessionRecord, error) {
	var (
		data    []byte
		expires int64
	)
	err := q.QueryRowContext(ctx, `SELECT state, expires FROM sessions WHERE id = ?`, id).Scan(&data, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	if err != nil {
		return nil, failed(ctx, err)
	}
	var kept state
	if err := json.Unmarshal(data, &kept); err != nil {
		return nil, status.Wrap(status.Unavailable, "store", err,
			"what session %q remembers cannot be read; end the session: %v", id, err)
	}
	return &dspex.SessionRecord{Values: kept.Values, History: kept.History, Expires: time.Unix(0, expires)}, nil
}

// Read returns a copy of the record of a session, nil if there is none.
func (s *Store) Read(ctx context.Context, id string) (*dspex.SessionRecord, error) {
	return read(ctx, s.db, id)
}

// Write changes the record of a session in one transaction, see [dspex.Store]. Writes of
// all sessions, and whatever else is asked of the store, wait for change.
func (s *Store) Write(ctx context.Context, id string, change func(*dspex.SessionRecord) error) (err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return failed(ctx, err)
	}
	defer func() {
		// After a commit there is nothing to take back, and the error says so.
		if undone := tx.Rollback(); undone != nil && !errors.Is(undone, sql.ErrTxDone) && err == nil {
			err = failed(ctx, undone)
		}
	}()
	record, err := read(ctx, tx, id)
	if err != nil {
		return err
	}
	if record == nil {
		record = &dspex.SessionRecord{}
	}
	if err := change(record); err != nil {
		return err
	}
	data, err := json.Marshal(state{Values: record.Values, History: record.History})
	if err != nil {
		return status.Wrap(status.InvalidArgument, "store", err, "what session %q remembers is not JSON: %v", id, err)
	}
	const upsert = `INSERT INTO sessions (id, state, expires) VALUES (?, ?, ?)
		ON CONFLICT (id) DO UPDATE SET state = excluded.state, expires = excluded.expires`
	if _, err := tx.ExecContext(ctx, upsert, id, data, record.Expires.UnixNano()); err != nil {
		return failed(ctx, err)
	}
	if err := tx.Commit(); err != nil {
		return failed(ctx, err)
	}
	return nil
}

// Renew puts off the moment at which a record expires.
func (s *Store) Renew(ctx context.Context, id string, now, expires time.Time) (bool, error) {
	n, err := s.exec(ctx, `UPDATE sessions SET expires = max(expires, ?) WHERE id = ? AND expires > ?`,
		expires.UnixNano(), id, now.UnixNano())
	return n > 0, err
}

// Delete forgets a record and reports whether there was one.
func (s *Store) Delete(ctx context.Context, id string) (bool, error) {
	n, err := s.exec(ctx, `DELETE FROM sessions WHERE id = ?`, id)
	return n > 0, err
}

// Expire forgets every record that has expired at now and returns how many.
func (s *Store) Expire(ctx context.Context, now time.Time) (int, error) {
	return s.exec(ctx, `DELETE FROM sessions WHERE expires <= ?`, now.UnixNano())
}

// Len returns how many records there are.
func (s *Store) Len(ctx context.Context) (int, error) {
	var n int
	if err := s.db.QueryRowContext(ctx, `SELECT count(*) FROM sessions`).Scan(&n); err != nil {
		return 0, failed(ctx, err)
	}
	return n, nil
}

func (s *Store) exec(ctx context.Context, query string, args ...any) (int, error) {
	result, err := s.db.ExecContext(ctx, query, args...)
	if err != nil {
		return 0, failed(ctx, err)
	}
	n, err := result.RowsAffected()
	if err != nil {
		return 0, failed(ctx, err)
	}
	return int(n), nil
}

// failed makes the error of an operation that SQLite did not do.
func failed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContext(ctx, "store", "the store had not answered")
	}
	e := status.Wrap(status.Unavailable, "store", err, "SQLite failed: %v", err)
	e.Retryable = isBusy(err)
	return e
}
