package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"
	codes "modernc.org/sqlite/lib"

	"github.com/dspex/dspex/internal/status"
)

const (
	// application marks the file as a store of dspex, for SQLite's application_id: "dspx".
	application = 0x64737078
	// version is the version of the schema, for SQLite's user_version.
	version = 1
	// busyTimeout is how long a process waits for another that writes, in milliseconds:
	// far longer than any write takes, shorter than a user's patience.
	busyTimeout = 5000
)

// schema makes an empty file a store. A row is read by its id, and expired rows are found
// by the index.
const schema = `
CREATE TABLE sessions (
	id      TEXT PRIMARY KEY NOT NULL,
	state   BLOB NOT NULL,
	expires INTEGER NOT NULL
);
CREATE INDEX sessions_expires ON sessions (expires);
`

// prepare makes the file if there is none, readable by its owner alone: sessions hold what
// users say. Doing so here gives errors of the operating system in their own words.
func prepare(path string) error {
	if path == "" {
		return status.New(status.InvalidArgument, "store", "the path of the store is empty")
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return status.Wrap(status.Unavailable, "store", err, "the store cannot be opened: %v", err)
	}
	if err := f.Close(); err != nil {
		return unusable(path, err)
	}
	return nil
}

// source is what database/sql opens. Transactions take the right to write when they
// begin: one that read first could not get it later without starting over.
func source(path string) (string, error) {
	whole, err := filepath.Abs(path)
	if err != nil {
		return "", unusable(path, err)
	}
	whole = filepath.ToSlash(whole)
	if !strings.HasPrefix(whole, "/") {
		whole = "/" + whole // a drive's letter
	}
	query := url.Values{
		"_pragma": {fmt.Sprintf("busy_timeout(%d)", busyTimeout), "synchronous(NORMAL)"},
		"_txlock": {"immediate"},
	}
	return "file:" + (&url.URL{Path: whole}).EscapedPath() + "?" + query.Encode(), nil
}

// migrate checks what the file is and makes an empty one a store.
func migrate(ctx context.Context, db *sql.DB, path string) error {
	if err := create(ctx, db, path); err != nil {
		return err
	}
	// It stays in the file; readers and the writer then do not wait for each other. Where
	// it cannot be set because the file is busy, whoever is busy with it sets it.
	if _, err := db.ExecContext(ctx, `PRAGMA journal_mode = WAL`); err != nil && !isBusy(err) {
		return opened(ctx, path, err)
	}
	return nil
}

// create makes the schema in an empty file. One process at a time looks and makes.
func create(ctx context.Context, db *sql.DB, path string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return opened(ctx, path, err)
	}
	empty, err := inspect(ctx, tx, path)
	if err == nil && empty {
		_, err = tx.ExecContext(ctx, fmt.Sprintf("%s PRAGMA application_id = %d; PRAGMA user_version = %d;",
			schema, application, version))
	}
	if err != nil {
		_ = tx.Rollback() // why it is needed says more
		return opened(ctx, path, err)
	}
	if err := tx.Commit(); err != nil {
		return opened(ctx, path, err)
	}
	return nil
}

// inspect reports whether the file is empty, and fails if it is neither that nor a store.
func inspect(ctx context.Context, q querier, path string) (empty bool, err error) {
	var app, schemaVersion, tables int
	for query, into := range map[string]*int{
		`PRAGMA application_id`:              &app,
		`PRAGMA user_version`:                &schemaVersion,
		`SELECT count(*) FROM sqlite_schema`: &tables,
	} {
		if err := q.QueryRowContext(ctx, query).Scan(into); err != nil {
			return false, opened(ctx, path, err)
		}
	}
	switch {
	case app == 0 && schemaVersion == 0 && tables == 0:
		return true, nil
	case app != application:
		return false, status.New(status.InvalidArgument, "store", "%s is a database of something else", path)
	case schemaVersion != version:
		return false, status.New(status.Unsupported, "store",
			"%s has version %d of the schema and this dspex knows %d; use the dspex that wrote it, or another file",
			path, schemaVersion, version)
	}
	return false, nil
}

// opened makes the error of a step of Open.
func opened(ctx context.Context, path string, err error) error {
	if _, ok := errors.AsType[*status.Error](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return status.FromContext(ctx, "store", "the store "+path+" was being opened")
	}
	if code(err) == codes.SQLITE_NOTADB {
		return status.Wrap(status.InvalidArgument, "store", err, "%s is not an SQLite file", path)
	}
	return unusable(path, err)
}

func unusable(path string, err error) error {
	e := status.Wrap(status.Unavailable, "store", err, "%s cannot be used: %v", path, err)
	e.Retryable = isBusy(err)
	return e
}

func isBusy(err error) bool { return code(err) == codes.SQLITE_BUSY }

// code returns SQLite's primary result code, 0 if err is not from SQLite.
func code(err error) int {
	if e, ok := errors.AsType[*sqlite.Error](err); ok {
		return e.Code() & 0xff
	}
	return 0
}
