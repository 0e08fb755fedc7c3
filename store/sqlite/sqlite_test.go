package sqlite_test

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/storetest"
	"github.com/dspex/dspex/store/sqlite"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t *testing.T, path string) *sqlite.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestSQLiteStoreKeepsTheContract(t *testing.T) {
	t.Parallel()
	storetest.Conformance(t, func(t *testing.T) dspex.Store {
		return open(t, filepath.Join(t.TempDir(), "sessions.db"))
	})
}

func TestRecordsSurviveTheStore(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "with space?#%41 and more.db")
	want := &dspex.SessionRecord{
		Values:  map[string]json.RawMessage{"k": json.RawMessage(`1`)},
		History: []json.RawMessage{json.RawMessage(`{"q":"a"}`)},
		Expires: time.Unix(1, 2),
	}
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error { *r = *want; return nil }); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || (runtime.GOOS != "windows" && info.Mode().Perm() != 0o600) {
		t.Errorf("%v, %v: want a file of that name that its owner alone can read", info, err)
	}
	got, err := open(t, path).Read(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("written (-) and read by the next (+):\n%s", diff)
	}
}

// Two stores on one file are what two processes have.
func TestStoresShareAFile(t *testing.T) {
	t.Parallel()
	const stores, writes = 4, 25
	path := filepath.Join(t.TempDir(), "sessions.db")
	var wait sync.WaitGroup
	for range stores {
		wait.Go(func() {
			s, err := sqlite.Open(t.Context(), path) // All make the schema at once.
			if err != nil {
				t.Error(err)
				return
			}
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			for range writes {
				if err := s.Write(t.Context(), "a", func(r *dspex.SessionRecord) error {
					r.History = append(r.History, json.RawMessage(`{}`))
					return nil
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	r, err := open(t, path).Read(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	if len(r.History) != stores*writes {
		t.Errorf("%d of %d writes were kept", len(r.History), stores*writes)
	}
}

// fresh makes an empty store.
func fresh(t *testing.T, path string) {
	t.Helper()
	s, err := sqlite.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// exec changes a file behind the store's back.
func exec(t *testing.T, path, query string) {
	t.Helper()
	db, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := db.ExecContext(t.Context(), query); err != nil {
		t.Error(err)
	}
	if err := db.Close(); err != nil {
		t.Error(err)
	}
}

func TestAFileThatCannotBeUsedIsATypedErrorAndLeftAlone(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		make func(t *testing.T, path string)
		code dspex.Code
		says string
	}{
		{"some text", func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("hello world\n", 1000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, dspex.CodeInvalidArgument, "is not an SQLite file"},
		{"a database of something else", func(t *testing.T, path string) {
			exec(t, path, `CREATE TABLE sessions (id TEXT)`)
		}, dspex.CodeInvalidArgument, "of something else"},
		{"a later version", func(t *testing.T, path string) {
			fresh(t, path)
			exec(t, path, `PRAGMA user_version = 7`)
		}, dspex.CodeUnsupported, "version 7"},
		{"a directory", func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, dspex.CodeUnavailable, "directory"},
		{"a damaged file", func(t *testing.T, path string) {
			fresh(t, path)
			exec(t, path, `PRAGMA journal_mode = DELETE`)
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			copy(data[100:], strings.Repeat("\xff", 3000)) // The first page, after its head.
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}, dspex.CodeUnavailable, "malformed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path := filepath.Join(t.TempDir(), "sessions.db")
			tt.make(t, path)
			before, _ := os.ReadFile(path)
			s, err := sqlite.Open(t.Context(), path)
			if s != nil || dspex.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("got %v, want %v that says %q", err, tt.code, tt.says)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
			if after, _ := os.ReadFile(path); !bytes.Equal(after, before) {
				t.Error("the file was changed")
			}
		})
	}
	for name, path := range map[string]string{"no path": "", "no directory": filepath.Join(t.TempDir(), "none", "s.db")} {
		if _, err := sqlite.Open(t.Context(), path); err == nil {
			t.Errorf("%s: it was opened", name)
		}
	}
}

func TestAnUnreadableRecordNamesItsSession(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sessions.db")
	s := open(t, path)
	exec(t, path, `INSERT INTO sessions VALUES ('broken', '{"values":', 1)`)
	_, err := s.Read(t.Context(), "broken")
	if dspex.CodeOf(err) != dspex.CodeUnavailable || !strings.Contains(err.Error(), `"broken"`) {
		t.Errorf("got %v", err)
	}
	if ok, err := s.Delete(t.Context(), "broken"); !ok || err != nil {
		t.Errorf("it cannot be ended: %v, %v", ok, err)
	}
}

func TestAClosedStoreIsATypedError(t *testing.T) {
	t.Parallel()
	s := open(t, filepath.Join(t.TempDir(), "sessions.db"))
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(t.Context(), "a"); dspex.CodeOf(err) != dspex.CodeUnavailable {
		t.Errorf("got %v, want unavailable", err)
	}
}
