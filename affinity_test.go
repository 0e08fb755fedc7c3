package dspex

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/status"
)

// died is the error of a call whose worker died; unseen says that it had seen nothing.
func died(unseen bool) *Error {
	err := status.New(status.WorkerLost, "run", "it died")
	err.Worker = "w1"
	if unseen {
		err.Err = backend.ErrUnseen
	}
	return err
}

func TestTheLossOfAHardSessionIsToldWhenThereWasSomethingToLose(t *testing.T) {
	t.Parallel()
	const again = Code(0) // the call is to be made again, and nothing is told
	type loss struct {
		sent, unseen bool
		want         Code
	}
	tests := []struct {
		name   string
		bound  int // calls that were sent to the worker
		losses []loss
	}{
		{"nothing was seen", 1, []loss{{true, true, again}}},
		{"a call was seen before", 1, []loss{{false, true, CodeSessionLost}, {false, true, again}}},
		{"of two running calls one tells", 2, []loss{{true, false, CodeSessionLost}, {true, false, CodeWorkerLost}}},
		{"a call that comes later is made again", 1, []loss{{true, false, CodeSessionLost}, {false, true, again}}},
		{"a call not seen tells for one that was", 2, []loss{{true, true, CodeSessionLost}, {true, false, CodeWorkerLost}}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := newAffinities(time.Hour, 10, time.Now)
			a, err := r.enter("s", Hard)
			if err != nil {
				t.Fatal(err)
			}
			var b *binding
			for range tt.bound {
				b = r.bind(a, b, "w1")
			}
			told := uint64(0)
			for i, l := range tt.losses {
				err := r.lose(a, b, l.sent, died(l.unseen))
				if CodeOf(err) != l.want {
					t.Errorf("loss %d: got %v, want %v", i, err, l.want)
				}
				if l.want == CodeSessionLost {
					told++
					var e *Error
					if !errors.As(err, &e) || e.Epoch != 1 || e.Worker != "w1" {
						t.Errorf("loss %d: %+v", i, e)
					}
				}
			}
			if got := r.snapshot().Lost; got != told {
				t.Errorf("%d losses are counted, want %d", got, told)
			}
			if next := r.bind(a, nil, "w2"); next.epoch != 2 {
				t.Errorf("the next epoch is %d", next.epoch)
			}
		})
	}
}

func TestWorkersOfSessionsAreForgottenInTheOrderOfTheirUse(t *testing.T) {
	t.Parallel()
	const limit = 10
	now := time.Unix(0, 0)
	r := newAffinities(time.Minute, limit, func() time.Time { return now })
	use := func(id string) {
		t.Helper()
		a, err := r.enter(id, Soft)
		if err != nil {
			t.Fatal(err)
		}
		r.bind(a, a.bound, "w1")
		r.leave(a)
	}
	busy, err := r.enter("busy", Soft)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 1_000 {
		use("regular")
		use(fmt.Sprint("guest ", i))
		if n := len(r.byID); n > limit {
			t.Fatalf("%d sessions are remembered, the limit is %d", n, limit)
		}
	}
	for _, id := range []string{"regular", "guest 999", "busy"} {
		if r.byID[id] == nil {
			t.Errorf("session %q was forgotten before others that were used longer ago", id)
		}
	}
	now = now.Add(time.Minute)
	if s := r.snapshot(); s.Placed > 1 {
		t.Errorf("%d sessions are remembered after the TTL, want the busy one at most", s.Placed)
	}
	r.leave(busy)
}
