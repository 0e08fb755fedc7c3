package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/status"
)

const (
	// late is by how much a timer may be late before the host itself is suspected of having
	// been stopped. Under load Go's timers are late by a few milliseconds.
	late = 100 * time.Millisecond
	// stacksBound is how long a stuck worker may take to write its stacks.
	stacksBound = 200 * time.Millisecond
	// listed is how many calls the error of a stuck worker names.
	listed = 8
)

// watch asks the worker for signs of life and kills it when it gives none.
func (w *Worker) watch(ctx context.Context) {
	timer := time.NewTimer(w.pause())
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.done:
			return
		case <-w.nudge: // no longer idle
			timer.Reset(w.o.PingBusy)
			continue
		case <-timer.C:
		}
		if !w.check(ctx) {
			return
		}
		timer.Reset(w.pause())
	}
}

// pause returns the time to the next check.
func (w *Worker) pause() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) > 0 {
		return w.o.PingBusy
	}
	w.asleep = true
	return w.o.PingIdle
}

// check makes one round: it reports whether the worker lives, and kills it if it is stuck.
func (w *Worker) check(ctx context.Context) bool {
	w.mu.Lock()
	w.asleep = false
	w.mu.Unlock()
	// Before it is killed, the worker is asked once more: this program may have been stopped
	// for just so long that its timer was hardly late, with the answer waiting in the socket.
	again := min(late, w.o.StuckAfter/4)
	first := w.o.StuckAfter - again
	for {
		began := time.Now()
		err := w.ping(ctx, first)
		if err != nil && errors.Is(err, context.DeadlineExceeded) && time.Since(began) <= first+late {
			err = w.ping(ctx, again)
		}
		switch {
		case err == nil:
			return true
		case ctx.Err() != nil || !errors.Is(err, context.DeadlineExceeded):
			return false // stopped, or the connection is lost: supervise is at it
		case time.Since(began) > w.o.StuckAfter+late:
			continue // this program did not run meanwhile; that is not the worker's fault
		}
		w.killStuck(time.Since(began))
		return false
	}
}

// ping asks for a sign of life and waits for it for so long.
func (w *Worker) ping(ctx context.Context, bound time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	_, err := w.conn.Ping(ctx)
	return err
}

// killStuck kills a worker that gives no sign of life, with all that is known about why.
func (w *Worker) killStuck(silent time.Duration) {
	stacks := w.stacks()
	calls := w.describeCalls()
	e := status.New(status.WorkerLost, "run", "was killed because it answered no ping for %v; %s",
		silent.Round(time.Millisecond), calls)
	e.Python = w.lastWords("it was stuck", stacks)
	w.o.Logger.Warn("worker: it is stuck and is killed", "silent", silent, "calls", calls, "stacks", stacks)
	w.kill(e)
}

// describeCalls lists what the worker may be running, the oldest first.
func (w *Worker) describeCalls() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.calls) == 0 {
		return "it had no calls"
	}
	calls := make([]*call, 0, len(w.calls))
	for c := range w.calls {
		calls = append(calls, c)
	}
	slices.SortFunc(calls, func(a, b *call) int { return cmp.Compare(a.began.UnixNano(), b.began.UnixNano()) })
	var b strings.Builder
	fmt.Fprintf(&b, "%d calls were in flight: ", len(calls))
	for i, c := range calls {
		if i == listed {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%s for %v", c.method, time.Since(c.began).Round(time.Millisecond))
		if !c.given.IsZero() {
			b.WriteString(" (canceled)")
		}
	}
	return b.String()
}

// stacks returns the Python stacks of the worker, "" if it cannot tell them.
func (w *Worker) stacks() string {
	ctx, cancel := context.WithTimeout(context.Background(), stacksBound)
	defer cancel()
	text, err := w.proc.Stacks(ctx)
	if err != nil {
		w.o.Logger.Debug("worker: no stacks", "error", err)
	}
	return text
}

// patiently waits for ch for as long as d, again if this program was stopped meanwhile, and
// reports whether ch was closed.
func patiently(ch <-chan struct{}, d time.Duration) bool {
	for {
		began := time.Now()
		if within(ch, d) {
			return true
		}
		if time.Since(began) <= d+late {
			return false
		}
	}
}
