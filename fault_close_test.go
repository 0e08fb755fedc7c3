//go:build linux

package dspex_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex"
)

// Closing one Runtime, or killing another process in the same directory, touches nobody
// else's workers.
func TestFault_C1_ClosingOneLeavesTheOthers(t *testing.T) {
	parallel(t)
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(os.Environ(), hostVariable+"=idle")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()

	held := newCounting(8)
	config := dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, DrainTimeout: time.Millisecond}}
	kept := open(t, config)
	closed, err := dspex.Open(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	program := dspex.Predict[question, answer]("")
	results := map[*dspex.Runtime]chan error{kept: make(chan error, 4), closed: make(chan error, 4)}
	for rt, result := range results {
		for i := range 4 {
			go func() { result <- ask(t.Context(), rt, program, fmt.Sprintf("question %d of %p", i, rt)) }()
			<-held.arrived
		}
	}
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the other process said %q: %v", line, err)
	}
	var others []unix.PollFd
	for _, pid := range descendants(t, cmd.Process.Pid) {
		others = append(others, unix.PollFd{Fd: int32(handle(t, pid)), Events: unix.POLLIN})
	}
	before := pids(kept.Stats())

	if err := closed.Close(t.Context()); err == nil {
		t.Error("a close that cut calls short returned no error")
	}
	for range 4 {
		if err := <-results[closed]; !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("a call of the closed Runtime: %v, want closed", err)
		}
	}
	if n, err := unix.Poll(others, 0); n != 0 || err != nil || len(others) < 3 {
		t.Errorf("%d of %d processes of another program have ended (%v)", n, len(others), err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for _, other := range others {
		readable(t, "the end of the other program's processes", int(other.Fd))
	}
	close(held.release)
	for range 4 {
		if err := <-results[kept]; err != nil {
			t.Errorf("a call of the other Runtime: %v", err)
		}
	}
	if after := pids(kept.Stats()); !slices.Equal(after, before) || kept.Stats().Lost != 0 {
		t.Errorf("the other Runtime has workers %v, before %v", after, before)
	}
}

// Close is defined in every state, bounded, and never panics.
func TestFault_C2_CloseIsDefinedInEveryState(t *testing.T) {
	parallel(t)
	program := dspex.Predict[question, answer]("")
	// closing closes the Runtime from three goroutines, and once more.
	closing := func(t *testing.T, rt *dspex.Runtime) error {
		t.Helper()
		start := time.Now()
		var (
			closers sync.WaitGroup
			errs    [3]error
		)
		for i := range errs {
			closers.Go(func() { errs[i] = rt.Close(t.Context()) })
		}
		closers.Wait()
		if err := rt.Close(t.Context()); !errors.Is(err, errs[0]) {
			t.Errorf("a later close returned %v, not %v", err, errs[0])
		}
		for _, err := range errs[1:] {
			if !errors.Is(err, errs[0]) {
				t.Errorf("a concurrent close returned %v, not %v", err, errs[0])
			}
		}
		if took := time.Since(start); took > within(time.Second) {
			t.Errorf("close took %v", took)
		}
		if err := ask(t.Context(), rt, program, "too late"); !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("a call afterwards: %v, want closed", err)
		}
		if err := rt.Ready(t.Context()); !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("ready afterwards: %v, want closed", err)
		}
		if stats := rt.Stats(); len(stats.Workers) != 0 || stats.Running != 0 || stats.Queued != 0 {
			t.Errorf("afterwards there are %+v", stats)
		}
		return errs[0]
	}
	lazily := func(t *testing.T, settings dspex.Settings) *dspex.Runtime {
		t.Helper()
		settings.Lazy = true
		rt, err := dspex.Open(t.Context(), dspex.Config{LM: echoing(), Settings: settings})
		if err != nil {
			t.Fatal(err)
		}
		return rt
	}
	t.Run("before anything was started", func(t *testing.T) {
		parallel(t)
		if err := closing(t, lazily(t, dspex.Settings{})); err != nil {
			t.Error(err)
		}
	})
	t.Run("while the first worker starts", func(t *testing.T) {
		parallel(t)
		rt := lazily(t, dspex.Settings{})
		results := make(chan error, 2)
		go func() { results <- ask(t.Context(), rt, program, "?") }()
		go func() { results <- rt.Ready(t.Context()) }()
		until(t, rt, "a caller", queued(1))
		if err := closing(t, rt); err != nil {
			t.Error(err)
		}
		for range 2 {
			if err := <-results; !errors.Is(err, dspex.ErrClosed) {
				t.Errorf("who waited for the start: %v, want closed", err)
			}
		}
	})
	t.Run("while restarts fail", func(t *testing.T) {
		parallel(t)
		rt := lazily(t, dspex.Settings{Python: dspex.PythonSettings{Preload: []string{"dspex_no_such_module"}}})
		if err := ask(t.Context(), rt, program, "?"); dspex.CodeOf(err) != dspex.CodeUnavailable {
			t.Errorf("a call that no worker can serve: %v, want unavailable", err)
		}
		ready := make(chan error, 1)
		go func() { ready <- rt.Ready(t.Context()) }()
		if err := closing(t, rt); err != nil {
			t.Error(err)
		}
		if err := <-ready; !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("who waited for a worker: %v, want closed", err)
		}
	})
	t.Run("with calls that run, wait and iterate", func(t *testing.T) {
		parallel(t)
		held := newCounting(1)
		rt, err := dspex.Open(t.Context(), dspex.Config{LM: held.model(), Settings: dspex.Settings{
			Max: 1, Slots: 1, DrainTimeout: 50 * time.Millisecond,
		}})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 12)
		for i := range 10 {
			go func() { results <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
		}
		<-held.arrived
		until(t, rt, "nine callers in the queue", queued(9))
		go func() { results <- rt.Idle(t.Context()) }()
		go func() {
			for r := range program.Batch(t.Context(), rt, []question{{"in a batch"}}) {
				results <- r.Err
			}
		}()
		until(t, rt, "ten callers in the queue", queued(10))
		if err := closing(t, rt); dspex.CodeOf(err) != dspex.CodeDeadlineExceeded {
			t.Errorf("close: %v, want deadline_exceeded", err)
		}
		for range 12 {
			if err := <-results; !errors.Is(err, dspex.ErrClosed) {
				t.Errorf("who ran or waited: %v, want closed", err)
			}
		}
	})
	t.Run("during a reset", func(t *testing.T) {
		parallel(t)
		rt, err := dspex.Open(t.Context(), dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
		if err != nil {
			t.Fatal(err)
		}
		reset := make(chan error, 1)
		go func() { reset <- rt.Reset(t.Context()) }()
		until(t, rt, "a start", func(s dspex.Stats) bool { return s.Started > 2 })
		if err := closing(t, rt); err != nil {
			t.Error(err)
		}
		if err := <-reset; err != nil && !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("reset: %v, want closed", err)
		}
	})
	t.Run("a start that is given up", func(t *testing.T) {
		parallel(t)
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		if rt, err := dspex.Open(ctx, dspex.Config{LM: echoing()}); rt != nil || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("open: %v, %v, want deadline_exceeded", rt, err)
		}
	})
}

// Close lets running calls finish; those that take longer than the drain get closed and
// are counted. An idle pool closes at once.
func TestFault_C3_CloseDrains(t *testing.T) {
	parallel(t)
	program := dspex.Predict[question, answer]("")
	start := func(t *testing.T, drain time.Duration) (*dspex.Runtime, *counting, chan error) {
		t.Helper()
		held := newCounting(16)
		rt, err := dspex.Open(t.Context(), dspex.Config{
			LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, DrainTimeout: drain},
		})
		if err != nil {
			t.Fatal(err)
		}
		results := make(chan error, 16)
		for i := range 16 {
			go func() { results <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
			<-held.arrived
		}
		return rt, held, results
	}
	t.Run("in time", func(t *testing.T) {
		parallel(t)
		rt, held, results := start(t, time.Minute)
		closed := make(chan error, 1)
		go func() { closed <- rt.Close(t.Context()) }()
		until(t, rt, "a draining worker", func(s dspex.Stats) bool { return len(s.Workers) == 2 && s.Workers[0].State == "draining" })
		if err := ask(t.Context(), rt, program, "too late"); !errors.Is(err, dspex.ErrClosed) {
			t.Errorf("a call during the drain: %v, want closed", err)
		}
		close(held.release)
		for range 16 {
			if err := <-results; err != nil {
				t.Errorf("a call that ran: %v", err)
			}
		}
		if err := <-closed; err != nil {
			t.Errorf("close: %v", err)
		}
	})
	for name, bound := range map[string]struct{ drain, ctx time.Duration }{
		"the drain takes too long": {50 * time.Millisecond, time.Minute},
		"the context ends":         {time.Minute, 50 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			parallel(t)
			rt, _, results := start(t, bound.drain)
			ctx, cancel := context.WithTimeout(t.Context(), bound.ctx)
			defer cancel()
			began := time.Now()
			err := rt.Close(ctx)
			if dspex.CodeOf(err) != dspex.CodeDeadlineExceeded || !strings.Contains(err.Error(), "16 ") {
				t.Errorf("close: %v, want deadline_exceeded that counts the 16 calls", err)
			}
			if took := time.Since(began); took < 50*time.Millisecond || took > within(200*time.Millisecond) {
				t.Errorf("close took %v with a drain of 50 ms", took)
			}
			for range 16 {
				if err := <-results; !errors.Is(err, dspex.ErrClosed) {
					t.Errorf("a call that ran too long: %v, want closed", err)
				}
			}
		})
	}
	t.Run("idle", func(t *testing.T) {
		parallel(t)
		var took []time.Duration
		for range rounds(20, 1) {
			rt, err := dspex.Open(t.Context(), dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
			if err != nil {
				t.Fatal(err)
			}
			if err := ask(t.Context(), rt, program, "?"); err != nil {
				t.Error(err)
			}
			began := time.Now()
			if err := rt.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
			took = append(took, time.Since(began))
		}
		slowest := slices.Max(took)
		t.Logf("closed within %v", slowest)
		if limit := within(50 * time.Millisecond); slowest > limit {
			t.Errorf("an idle pool took %v to close, want at most %v", slowest, limit)
		}
	})
}

// Ready and Idle are events: who waits is told when it happens. Calls that come before
// the first worker wait for it.
func TestFault_D2_ReadyAndIdleAreEvents(t *testing.T) {
	parallel(t)
	held := newCounting(8)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Lazy: true}})
	program := dspex.Predict[question, answer]("")
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := rt.Ready(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("ready for somebody who does not wait: %v", err)
	}
	var (
		waiters     sync.WaitGroup
		ready, done atomic.Int64
	)
	for i := range 8 { // Early calls queue.
		waiters.Go(func() {
			if err := ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)); err != nil {
				t.Error(err)
			}
			done.Add(1)
		})
	}
	until(t, rt, "early calls", func(s dspex.Stats) bool { return s.Queued+s.Running == 8 })
	var readies sync.WaitGroup
	for range 50 {
		readies.Go(func() {
			if err := rt.Ready(t.Context()); err != nil {
				t.Error(err)
			}
			if workers := rt.Stats().Workers; len(workers) < 2 {
				t.Errorf("ready with the workers %+v", workers)
			}
			ready.Add(1)
		})
	}
	readies.Wait()
	for range 8 {
		<-held.arrived
	}
	if err := rt.Idle(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("idle while calls run, for somebody who does not wait: %v", err)
	}
	told := make(chan time.Time, 50)
	for range 50 {
		go func() {
			if err := rt.Idle(t.Context()); err != nil {
				t.Error(err)
			}
			told <- time.Now()
		}()
	}
	close(held.release)
	waiters.Wait()
	last := time.Now()
	for range 50 {
		if at := <-told; at.Sub(last) > within(10*time.Millisecond) {
			t.Errorf("told %v after the last call that nothing runs", at.Sub(last))
		}
	}
	if stats := rt.Stats(); stats.Running != 0 || stats.Queued != 0 || done.Load() != 8 || ready.Load() != 50 {
		t.Errorf("idle with %+v", stats)
	}
}
