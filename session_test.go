package dspex_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/store/sqlite"
)

// clock is a clock that tests move.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) read() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// wantErrorCode checks that err is an *Error with that code.
func wantErrorCode(t *testing.T, err error, code dspex.Code) {
	t.Helper()
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Errorf("got %v, want %v", err, code)
	}
}

// must ends the test if err is not nil.
func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lazily opens a Runtime that starts no worker unless a program is run.
func lazily(t *testing.T, config dspex.Config) *dspex.Runtime {
	t.Helper()
	config.Lazy = true
	return open(t, config)
}

func TestAnUnusableSessionIsATypedErrorAndStartsNothing(t *testing.T) {
	t.Parallel()
	rt := lazily(t, dspex.Config{LM: echoing()})
	tests := []struct {
		name, id string
		mode     dspex.SessionMode
		says     string
	}{
		{"no id", "", dspex.Soft, "needs an id"},
		{"too long", strings.Repeat("x", 129), dspex.Soft, "129 bytes"},
		{"a space", "user 42", dspex.Hard, `' '`},
		{"a line break", "user\n", dspex.Hard, `'\n'`},
		{"not ASCII", "usér", dspex.Soft, "ASCII"},
		{"unknown mode", "user", dspex.SessionMode(7), "7 is not a session mode"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := rt.Session(tt.id, tt.mode)
			_, running := dspex.Predict[question, answer]("").Run(t.Context(), s, question{"Who?"})
			_, getting := s.Get(t.Context(), "k", new(int))
			for name, err := range map[string]error{
				"Err": s.Err(), "Run": running, "Get": getting,
				"Set": s.Set(t.Context(), "k", 1), "Append": s.Append(t.Context()), "End": s.End(t.Context()),
			} {
				wantErrorCode(t, err, dspex.CodeInvalidArgument)
				if err != nil && !strings.Contains(err.Error(), tt.says) {
					t.Errorf("%s: %q does not say %q", name, err, tt.says)
				}
			}
		})
	}
	for _, id := range []string{"a", strings.Repeat("x", 128), "tenant/user+tag@example.com:42~!"} {
		if err := rt.Session(id, dspex.Hard).Err(); err != nil {
			t.Errorf("%q: %v", id, err)
		}
	}
	if stats := rt.Stats(); stats.Started != 0 {
		t.Errorf("%d workers were started", stats.Started)
	}
}

func TestASessionRemembersJSON(t *testing.T) {
	t.Parallel()
	rt := lazily(t, dspex.Config{})
	ctx := t.Context()
	s := rt.Session("user-42", dspex.Soft)
	type profile struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	want := profile{"Ada", []string{"a", "b"}}
	must(t, s.Set(ctx, "profile", want))
	must(t, s.Set(ctx, "n", int64(math.MaxInt64)))
	must(t, s.Set(ctx, "nothing", nil))

	var got profile
	// Another handle is the same session, whatever its mode.
	if ok, err := rt.Session("user-42", dspex.Hard).Get(ctx, "profile", &got); !ok || err != nil {
		t.Fatal(ok, err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var n int64
	if ok, err := s.Get(ctx, "n", &n); !ok || err != nil || n != math.MaxInt64 {
		t.Error(ok, err, n)
	}
	if ok, err := s.Get(ctx, "unknown", &n); ok || err != nil || n != math.MaxInt64 {
		t.Error(ok, err, n)
	}
	_, err := s.Get(ctx, "profile", &n)
	wantErrorCode(t, err, dspex.CodeInvalidArgument)
	if ok, err := rt.Session("user-43", dspex.Soft).Get(ctx, "n", &n); ok || err != nil {
		t.Error("another session sees it:", ok, err)
	}

	must(t, s.Delete(ctx, "profile", "unknown"))
	values, err := s.Values(ctx)
	must(t, err)
	if diff := cmp.Diff(map[string]json.RawMessage{
		"n": json.RawMessage("9223372036854775807"), "nothing": json.RawMessage("null"),
	}, values); diff != "" {
		t.Error(diff)
	}
	must(t, s.End(ctx))
	if values, err := s.Values(ctx); err != nil || values == nil || len(values) != 0 {
		t.Error("after the end there is", values, err)
	}
	if stats := rt.SessionStats(); stats.Created != 1 || stats.Ended != 1 {
		t.Errorf("%+v", stats)
	}
}

func TestWhatASessionCannotRememberIsATypedErrorAndChangesNothing(t *testing.T) {
	t.Parallel()
	rt := lazily(t, dspex.Config{Settings: dspex.Settings{Session: dspex.SessionSettings{Bytes: 100}}})
	ctx := t.Context()
	s := rt.Session("s", dspex.Soft)
	must(t, s.Set(ctx, "k", strings.Repeat("x", 50)))
	before, err := s.Values(ctx)
	must(t, err)
	cycle := map[string]any{}
	cycle["self"] = cycle
	for name, err := range map[string]error{
		"a function":          s.Set(ctx, "f", func() {}),
		"not a number":        s.Set(ctx, "f", math.NaN()),
		"a cycle":             s.Set(ctx, "f", cycle),
		"broken JSON":         s.Set(ctx, "f", json.RawMessage(`{"a":`)),
		"too big alone":       s.Set(ctx, "f", strings.Repeat("x", 100)),
		"too big with others": s.Set(ctx, "f", strings.Repeat("x", 45)),
		"too big by update": s.Update(ctx, "k", func(json.RawMessage) (any, error) {
			return strings.Repeat("x", 98), nil
		}),
		"an update that is not JSON": s.Update(ctx, "k", func(json.RawMessage) (any, error) { return make(chan int), nil }),
		"no key":                     s.Set(ctx, "", 1),
		"a long key":                 s.Set(ctx, strings.Repeat("k", 129), 1),
		"a key that is not UTF-8":    s.Set(ctx, "\xff", 1),
		"a turn that is a text":      s.Append(ctx, "hello"),
		"a turn that is a list":      s.Append(ctx, map[string]any{}, []int{1}),
		"a turn that is nothing":     s.Append(ctx, nil),
		"a turn too big":             s.Append(ctx, dspex.Values{"q": strings.Repeat("x", 60)}),
	} {
		t.Run(name, func(t *testing.T) { wantErrorCode(t, err, dspex.CodeInvalidArgument) })
	}
	own := errors.New("own")
	if err := s.Update(ctx, "k", func(json.RawMessage) (any, error) { return nil, own }); err != own { //nolint:errorlint // the very error
		t.Errorf("got %v, want the error of the change", err)
	}
	after, err := s.Values(ctx)
	must(t, err)
	if diff := cmp.Diff(before, after); diff != "" {
		t.Error(diff)
	}
	if turns, err := s.History(ctx); err != nil || len(turns) != 0 {
		t.Errorf("turns %s, %v", turns, err)
	}
	must(t, s.Set(ctx, "f", strings.Repeat("x", 44))) // 100 bytes: the limit itself fits
}

func TestAConversationKeepsItsLatestTurns(t *testing.T) {
	t.Parallel()
	rt := lazily(t, dspex.Config{Settings: dspex.Settings{Session: dspex.SessionSettings{Turns: 3, Bytes: 200}}})
	ctx := t.Context()
	s := rt.Session("s", dspex.Soft)
	turns := func(want ...string) {
		t.Helper()
		history, err := s.History(ctx)
		must(t, err)
		var got []string
		for _, turn := range history {
			got = append(got, string(turn))
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Error(diff)
		}
	}
	must(t, s.Append(ctx, question{"1"}, dspex.Values{"question": "2"}))
	turns(`{"question":"1"}`, `{"question":"2"}`)
	must(t, s.Append(ctx, question{"3"}, question{"4"}))
	turns(`{"question":"2"}`, `{"question":"3"}`, `{"question":"4"}`)
	long := strings.Repeat("x", 160) // With it only one of the others fits.
	must(t, s.Append(ctx, question{long}))
	turns(`{"question":"4"}`, `{"question":"`+long+`"}`)
	must(t, s.Set(ctx, "k", "v"))
	must(t, s.ClearHistory(ctx))
	turns()
	if ok, err := s.Get(ctx, "k", new(string)); !ok || err != nil {
		t.Error("the values went with the conversation:", ok, err)
	}
}

func TestASessionSurvivesTheProcessInAFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "sessions.db")
	ctx := t.Context()
	for round := range 3 { // Each round is what a process does.
		store, err := sqlite.Open(ctx, path)
		must(t, err)
		rt := lazily(t, dspex.Config{Store: store})
		s := rt.Session("user-42", dspex.Soft)
		var n int
		_, err = s.Get(ctx, "n", &n)
		must(t, err)
		turns, err := s.History(ctx)
		must(t, err)
		if n != round || len(turns) != round {
			t.Errorf("round %d finds %d and %d turns", round, n, len(turns))
		}
		must(t, s.Set(ctx, "n", n+1))
		must(t, s.Append(ctx, question{"?"}))
		must(t, rt.Close(ctx))
		must(t, store.Close())
		wantErrorCode(t, s.Set(ctx, "n", 9), dspex.CodeClosed)
	}
}

// failingStore is a store that is broken.
type failingStore struct{ dspex.Store }

func (failingStore) Read(context.Context, string) (*dspex.SessionRecord, error) {
	return nil, errors.New("the disk is gone")
}

func (failingStore) Renew(context.Context, string, time.Time, time.Time) (bool, error) {
	return false, errors.New("the disk is gone")
}

func (failingStore) Write(context.Context, string, func(*dspex.SessionRecord) error) error {
	return errors.New("the disk is gone")
}

func TestAFailingStoreIsATypedErrorAndFailsNoCall(t *testing.T) {
	t.Parallel()
	var log logs
	rt := open(t, dspex.Config{LM: echoing(), Store: failingStore{}, Logger: log.logger()})
	s := rt.Session("s", dspex.Soft)
	_, err := s.Values(t.Context())
	wantErrorCode(t, err, dspex.CodeUnavailable)
	wantErrorCode(t, s.Set(t.Context(), "k", 1), dspex.CodeUnavailable)
	if _, err := dspex.Predict[question, answer]("").Run(t.Context(), s, question{"Who?"}); err != nil {
		t.Errorf("a call that needs nothing of the store: %v", err)
	}
	log.wait(t, "could not be renewed")
}

func TestASessionRunsAndBatchesProgramsAsARuntimeDoes(t *testing.T) {
	t.Parallel()
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
	program := dspex.Predict[question, answer]("")
	inputs := make([]question, 50)
	for i := range inputs {
		inputs[i] = question{fmt.Sprint("question ", i)}
	}
	for _, mode := range []dspex.SessionMode{dspex.Soft, dspex.Hard} {
		s := rt.Session("batch-"+mode.String(), mode)
		workers := make(map[string]int)
		for result := range program.Batch(t.Context(), s, inputs, dspex.Concurrency(16)) {
			if result.Err != nil {
				t.Fatal(result.Err)
			}
			if got := result.Prediction.Output.Answer; got != inputs[result.Index].Question {
				t.Errorf("%d: %q", result.Index, got)
			}
			workers[result.Prediction.Worker.ID]++
		}
		if len(workers) != 1 {
			t.Errorf("%s: spread over %v", mode, workers)
		}
	}
	_, err := program.Run(t.Context(), rt.Session("batch-hard", dspex.Soft), question{"Who?"})
	wantErrorCode(t, err, dspex.CodeInvalidArgument)
	if !strings.Contains(fmt.Sprint(err), "in use as a hard session") {
		t.Error(err)
	}
	if s := rt.Session("batch-hard", dspex.Hard); s.Epoch() != 1 {
		t.Errorf("epoch %d", s.Epoch())
	}
}

func TestTooManyHardSessionsAreRefusedAndSoftOnesGoAnywhere(t *testing.T) {
	t.Parallel()
	now := newClock()
	rt := open(t, dspex.Config{LM: echoing(), Now: now.read, Settings: dspex.Settings{
		Session: dspex.SessionSettings{Max: 2, TTL: time.Minute},
	}})
	program := dspex.Predict[question, answer]("")
	run := func(id string, mode dspex.SessionMode) error {
		_, err := program.Run(t.Context(), rt.Session(id, mode), question{"Who?"})
		return err
	}
	must(t, run("soft", dspex.Soft))
	must(t, run("hard-1", dspex.Hard))
	now.advance(10 * time.Second)
	must(t, run("hard-2", dspex.Hard)) // In the soft one's place.
	err := run("hard-3", dspex.Hard)
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeOverloaded || e.RetryAfter != 50*time.Second {
		t.Errorf("got %v with retry after %v, want overloaded until the first expires", err, e.RetryAfter)
	}
	must(t, run("soft", dspex.Soft))
	if stats := rt.SessionStats(); stats.Placed != 2 || stats.Refused != 1 {
		t.Errorf("%+v", stats)
	}
	now.advance(50 * time.Second)
	must(t, run("hard-3", dspex.Hard))
	must(t, rt.Session("hard-2", dspex.Hard).End(t.Context()))
	must(t, run("hard-4", dspex.Hard))
}

// The worker of a hard session that is being replaced finishes what it runs; the session
// learns at its next call that what it kept in Python is gone.
func TestAReplacedWorkerEndsAnEpoch(t *testing.T) {
	t.Parallel()
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 1, Max: 1}})
	program := dspex.Predict[question, answer]("")
	s := rt.Session("s", dspex.Hard)
	_, err := program.Run(t.Context(), s, question{"Who?"})
	must(t, err)
	must(t, rt.Reset(t.Context()))
	_, err = program.Run(t.Context(), s, question{"Who?"})
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeSessionLost || e.Epoch != 1 || !e.Retryable {
		t.Errorf("got %v, want session_lost of epoch 1", err)
	}
	_, err = program.Run(t.Context(), s, question{"Who?"})
	must(t, err)
	if s.Epoch() != 2 {
		t.Errorf("epoch %d", s.Epoch())
	}
}
