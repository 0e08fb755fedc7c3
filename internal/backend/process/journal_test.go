package process

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// newJournal returns a journal and a count of what it has had answered.
func newJournal(t *testing.T) (*journal, func(a attempt, body string) (string, error), *int) {
	t.Helper()
	group := lifecycle.NewGroup(t.Context())
	t.Cleanup(group.Wait)
	j := &journal{ctx: t.Context(), group: group, logger: slog.New(slog.DiscardHandler)}
	asked := 0
	return j, func(a attempt, body string) (string, error) {
		answer, err := a.ask(t.Context(), "lm.complete", []byte(body), func(context.Context) ([]byte, error) {
			asked++
			return []byte("answer to " + body), nil
		})
		return string(answer), err
	}, &asked
}

func TestJournalAnswersTheSecondRunWithoutAskingAgain(t *testing.T) {
	j, ask, asked := newJournal(t)
	for _, body := range []string{"a", "b", "a"} {
		if _, err := ask(attempt{j, 0}, body); err != nil {
			t.Fatal(err)
		}
	}
	if *asked != 3 {
		t.Fatalf("%d requests were answered, want 3: equal ones of a run are two samples", *asked)
	}
	if !j.rewind() {
		t.Fatal("the call cannot be run again")
	}
	for _, body := range []string{"a", "a", "b"} {
		got, err := ask(attempt{j, 1}, body)
		if err != nil || got != "answer to "+body {
			t.Errorf("%s: %q, %v", body, got, err)
		}
	}
	if *asked != 3 {
		t.Errorf("the second run asked %d times more", *asked-3)
	}
	if got, err := ask(attempt{j, 1}, "c"); err != nil || got != "answer to c" || *asked != 4 {
		t.Errorf("what is new in the second run: %q, %v, asked %d times", got, err, *asked)
	}
	if j.rewind() {
		t.Error("the call may be run a third time")
	}
}

// What a dead worker had sent may be read when the next run is under way already.
func TestJournalRefusesTheRequestsOfAnEarlierRun(t *testing.T) {
	j, ask, asked := newJournal(t)
	if _, err := ask(attempt{j, 0}, "a"); err != nil {
		t.Fatal(err)
	}
	if !j.rewind() {
		t.Fatal("the call cannot be run again")
	}
	if _, err := ask(attempt{j, 0}, "a"); status.CodeOf(err) != status.Canceled {
		t.Errorf("a late request: %v, want canceled", err)
	}
	if got, err := ask(attempt{j, 1}, "a"); err != nil || got != "answer to a" || *asked != 1 {
		t.Errorf("the second run: %q, %v, asked %d times, want once", got, err, *asked)
	}
}

func TestJournalEndsARunThatAsksForSomethingElse(t *testing.T) {
	j, ask, asked := newJournal(t)
	if _, err := ask(attempt{j, 0}, "a"); err != nil {
		t.Fatal(err)
	}
	if !j.rewind() {
		t.Fatal("the call cannot be run again")
	}
	if _, err := ask(attempt{j, 1}, "b"); status.CodeOf(err) != status.WorkerLost || *asked != 1 {
		t.Errorf("got %v after %d answers, want worker_lost after one", err, *asked)
	}
}

func TestJournalBeyondItsLimitStillServesItsRun(t *testing.T) {
	j, _, _ := newJournal(t)
	long := []byte(strings.Repeat("x", journalLimit+1))
	got, err := attempt{j, 0}.ask(t.Context(), "lm.complete", nil, func(context.Context) ([]byte, error) { return long, nil })
	if err != nil || len(got) != len(long) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	if j.rewind() {
		t.Error("the call may be run again without a whole journal")
	}
}

func TestJournalAsksNothingForACallThatHasEnded(t *testing.T) {
	j, ask, asked := newJournal(t)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	j.ctx = ended
	if _, err := ask(attempt{j, 0}, "a"); !errors.Is(err, context.Canceled) || *asked != 0 {
		t.Errorf("got %v after %d answers, want canceled after none", err, *asked)
	}
}
