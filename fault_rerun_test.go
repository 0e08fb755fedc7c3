//go:build linux

package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"syscall"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// counting is a model that counts what it is asked and holds its answers back.
type counting struct {
	mu      sync.Mutex
	asked   map[string]int
	arrived chan string
	release chan struct{}
}

func newCounting(most int) *counting {
	return &counting{asked: make(map[string]int), arrived: make(chan string, most), release: make(chan struct{})}
}

func (c *counting) model() *scripted.Model {
	return scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		text := asked(req)
		c.mu.Lock()
		c.asked[text]++
		c.mu.Unlock()
		c.arrived <- text
		select {
		case <-c.release:
			return completion(text), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
}

func (c *counting) check(t *testing.T, want int) {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.asked) != want {
		t.Errorf("%d different questions were asked, want %d", len(c.asked), want)
	}
	for text, n := range c.asked {
		if n != 1 {
			t.Errorf("%q was asked %d times", text, n)
		}
	}
}

// kill sends SIGKILL to a worker, a child of this process that was not reaped yet.
func kill(t *testing.T, w dspex.WorkerStats) {
	t.Helper()
	if err := syscall.Kill(w.PID, syscall.SIGKILL); err != nil {
		t.Fatalf("killing worker %s: %v", w.ID, err)
	}
}

// The death of a worker is invisible to the callers of built-in modules: their calls are
// run again elsewhere, and the model is asked nothing twice.
func TestFault_C6_KilledWorkerCostsNothing(t *testing.T) {
	t.Parallel()
	n := rounds(2_000, 20)
	held := newCounting(n)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Slots: n}})
	program := dspex.Predict[question, answer]("")
	reruns := make(chan int, n)
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			text := fmt.Sprintf("question %d", i)
			pred, err := program.Run(t.Context(), rt, question{text})
			if err != nil {
				t.Errorf("%s: %v", text, err)
				return
			}
			if pred.Output.Answer != text {
				t.Errorf("%s: the answer is %q", text, pred.Output.Answer)
			}
			if len(pred.Calls) != 1 {
				t.Errorf("%s: %d model calls", text, len(pred.Calls))
			}
			reruns <- pred.Reruns
		})
	}
	for range n { // Every call waits for its model.
		<-held.arrived
	}
	stats := rt.Stats()
	kill(t, stats.Workers[0])
	if err := waitLost(t, rt, 1); err != nil {
		t.Fatal(err)
	}
	close(held.release)
	calls.Wait()
	close(reruns)
	again := 0
	for r := range reruns {
		again += r
	}
	if want := stats.Workers[0].Calls; again != want {
		t.Errorf("%d calls were run again, %d were on the killed worker", again, want)
	}
	held.check(t, n)
}

// waitLost returns when the Runtime has noticed that n workers died.
func waitLost(t *testing.T, rt *dspex.Runtime, n uint64) error {
	t.Helper()
	for rt.Stats().Lost < n {
		// A call to whichever worker lives; each one gives the Runtime time to notice.
		if err := rt.Ready(t.Context()); err != nil {
			return err
		}
	}
	return nil
}

// A request that was on two dying workers is not tried on a third.
func TestFault_F8_PoisonIsNotTriedAgain(t *testing.T) {
	t.Parallel()
	held := newCounting(1)
	var log logs
	rt := open(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{Min: 1, Max: 1}})
	failed := make(chan error, 1)
	go func() {
		_, err := dspex.Predict[question, answer]("").Run(t.Context(), rt, question{"Who?"})
		failed <- err
	}()
	<-held.arrived
	kill(t, rt.Stats().Workers[0])
	log.wait(t, "answered from the journal") // The call is on the second worker.
	kill(t, rt.Stats().Workers[0])
	var e *dspex.Error
	if err := <-failed; !errors.As(err, &e) || e.Code != dspex.CodeWorkerLost || e.Worker == "" {
		t.Errorf("got %v, want worker_lost with the worker", err)
	}
	held.check(t, 1)
	if err := rt.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}
