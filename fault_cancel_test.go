//go:build linux

package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// parallel lets a fault test run beside others in the short form; in the full form, whose
// times are measured, it has the machine to itself.
func parallel(t *testing.T) {
	t.Helper()
	if !full() {
		t.Parallel()
	}
}

// until returns when the Runtime's statistics are as wanted. It lets everybody else run
// between two looks, and fails the test after half a minute.
func until(t *testing.T, rt *dspex.Runtime, what string, wanted func(dspex.Stats) bool) dspex.Stats {
	t.Helper()
	for start := time.Now(); ; runtime.Gosched() {
		stats := rt.Stats()
		if wanted(stats) {
			return stats
		}
		if time.Since(start) > 30*time.Second {
			t.Fatalf("waited for %s; the statistics are %+v", what, stats)
		}
	}
}

func queued(n int) func(dspex.Stats) bool {
	return func(s dspex.Stats) bool { return s.Queued == n }
}

// With room in the queue every caller succeeds; without, the next is refused at once and
// told when to come again.
func TestFault_B1_FullQueueRefusesAtOnce(t *testing.T) {
	parallel(t)
	held := newCounting(6)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Slots: 1, Queue: 4}})
	program := dspex.Predict[question, answer]("")
	results := make(chan error, 6)
	for i := range 6 {
		go func() { results <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
	}
	until(t, rt, "four callers in the queue", queued(4))
	took := make([]time.Duration, 500)
	for i := range took {
		start := time.Now()
		_, err := program.Run(t.Context(), rt, question{"one too many"})
		took[i] = time.Since(start)
		var e *dspex.Error
		if !errors.As(err, &e) || e.Code != dspex.CodeOverloaded || !e.Retryable || e.RetryAfter <= 0 {
			t.Fatalf("the seventh caller: %+v, want overloaded with a hint", err)
		}
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("refused within %v (p50), %v (p99), %v (all)", took[len(took)/2], p99, took[len(took)-1])
	if limit := within(time.Millisecond); p99 > limit {
		t.Errorf("callers were refused after %v, want at most %v", p99, limit)
	}
	close(held.release)
	for range 6 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	held.check(t, 6)
}

// There is one deadline: wherever it passes, the caller is told within 10 ms.
func TestFault_B5_OneDeadlineAtEveryStage(t *testing.T) {
	parallel(t)
	program := dspex.Predict[question, answer]("")
	// expires makes a call whose deadline passes while it is where the test has brought it.
	expires := func(t *testing.T, after time.Duration, run func(ctx context.Context) error) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), after)
		defer cancel()
		err := run(ctx)
		deadline, _ := ctx.Deadline()
		late := time.Since(deadline)
		if dspex.CodeOf(err) != dspex.CodeDeadlineExceeded || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want deadline_exceeded", err)
		}
		if limit := within(10 * time.Millisecond); late > limit {
			t.Errorf("told %v after the deadline, want at most %v", late, limit)
		}
	}
	t.Run("before the call", func(t *testing.T) {
		parallel(t)
		rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true}})
		expires(t, 0, func(ctx context.Context) error { return ask(ctx, rt, program, "?") })
	})
	t.Run("while the first worker starts", func(t *testing.T) {
		parallel(t)
		rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true}})
		expires(t, 50*time.Millisecond, func(ctx context.Context) error { return ask(ctx, rt, program, "?") })
		if err := ask(t.Context(), rt, program, "patient"); err != nil {
			t.Error(err)
		}
	})
	t.Run("with a worker", func(t *testing.T) {
		parallel(t)
		held := newCounting(8)
		var log logs
		rt := openDebug(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{Max: 1, Slots: 2}})
		call := func(text string) func(ctx context.Context) error {
			return func(ctx context.Context) error { return ask(ctx, rt, program, text) }
		}
		worker := rt.Stats().Workers[0]
		first := make(chan error, 1)
		go func() { first <- call("first")(t.Context()) }()
		<-held.arrived

		t.Log("waiting for the model")
		expires(t, 300*time.Millisecond, call("second"))
		if got := <-held.arrived; got != "second" {
			t.Errorf("the model was asked %q", got)
		}
		idle := func() {
			until(t, rt, "the free slot", func(s dspex.Stats) bool { return s.Running == 1 })
		}
		idle()
		t.Log("in Python that does not yield")
		expires(t, 50*time.Millisecond, func(ctx context.Context) error {
			_, err := dspex.Misbehave(ctx, rt, map[string]any{"op": "spin", "seconds": 0.3})
			return err
		})
		idle()
		t.Log("while the call and its program are sent to a worker that does not read")
		signal(t, worker, syscall.SIGSTOP)
		expires(t, 50*time.Millisecond, func(ctx context.Context) error {
			return ask(ctx, rt, dspex.Predict[question, answer]("Not sent before."), strings.Repeat("x", 1<<20))
		})
		expires(t, 50*time.Millisecond, call(strings.Repeat("x", 5<<20)))
		expires(t, 50*time.Millisecond, call("behind the long one"))
		signal(t, worker, syscall.SIGCONT)
		idle()
		t.Log("in the queue")
		third, stop := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { _ = call("third")(third); close(ended) }()
		<-held.arrived
		expires(t, 50*time.Millisecond, call("fourth"))
		stop()
		<-ended
		idle()
		t.Log("while the call is run again")
		expires(t, 400*time.Millisecond, func(ctx context.Context) error {
			result := make(chan error, 1)
			go func() { result <- call("fifth")(ctx) }()
			<-held.arrived
			kill(t, worker)
			log.wait(t, "answered from the journal")
			return <-result
		})
		close(held.release)
		if err := <-first; err != nil {
			t.Errorf("the call that had time: %v", err)
		}
	})
}

// signal sends a signal to a worker, a child of this process that was not reaped yet.
func signal(t *testing.T, w dspex.WorkerStats, s syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(w.PID, s); err != nil {
		t.Fatalf("%v to worker %s: %v", s, w.ID, err)
	}
}

// No caller ever gets another's answer, also when answers come late to calls that were
// canceled.
func TestFault_B6_NoAnswerReachesAnotherCall(t *testing.T) {
	parallel(t)
	n := rounds(10_000, 400)
	var cancels sync.Map // by question: the function that cancels it
	model := scripted.New(scripted.Config{Keep: -1, Answer: func(_ context.Context, req *lm.Request) (*lm.Response, error) {
		text := asked(req)
		if cancel, ok := cancels.Load(text); ok {
			cancel.(context.CancelFunc)()
			runtime.Gosched()
		}
		return scripted.Text(completion(text)), nil // Late, if it was canceled.
	}})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 2, Slots: 100}})
	program := dspex.Predict[question, answer]("")
	var next, right, canceled atomic.Int64
	var callers sync.WaitGroup
	for range 200 {
		callers.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				text := fmt.Sprintf("question %d: %x", i, rand.Uint64())
				ctx, cancel := context.WithCancel(t.Context())
				if i%3 == 0 {
					cancels.Store(text, cancel)
				}
				switch err := ask(ctx, rt, program, text); {
				case err == nil:
					right.Add(1)
				case i%3 == 0 && errors.Is(err, context.Canceled):
					canceled.Add(1)
				default:
					t.Errorf("call %d: %v", i, err)
				}
				cancel()
			}
		})
	}
	callers.Wait()
	t.Logf("%d answers, %d canceled", right.Load(), canceled.Load())
	if canceled.Load() == 0 || right.Load() < int64(n)/2 {
		t.Errorf("%d of %d calls were answered, %d canceled", right.Load(), n, canceled.Load())
	}
	if lost := rt.Stats().Lost; lost != 0 {
		t.Errorf("%d workers were lost", lost)
	}
}

// Calls that were canceled or timed out leave nothing, neither in Go nor in Python. It
// runs alone, since what is left is told by counting.
func TestFault_B7_CanceledCallsLeaveNothing(t *testing.T) {
	var cancels sync.Map
	model := scripted.New(scripted.Config{Keep: -1, Answer: func(ctx context.Context, req *lm.Request) (*lm.Response, error) {
		if cancel, ok := cancels.LoadAndDelete(asked(req)); ok {
			cancel.(context.CancelFunc)()
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Max: 1, Slots: 32}})
	program := dspex.Predict[question, answer]("")
	serial := 0
	leave := func(n int) {
		var callers sync.WaitGroup
		for c := range 50 { // More than there are slots: some end in the queue.
			base := serial
			callers.Go(func() {
				for i := c; i < n; i += 50 {
					text := fmt.Sprint(base + i)
					ctx, cancel := context.WithCancel(t.Context())
					if i%2 == 0 {
						cancels.Store(text, cancel)
					} else {
						cancel()
						ctx, cancel = context.WithTimeout(t.Context(), time.Duration(i%20)*time.Millisecond)
					}
					if err := ask(ctx, rt, program, text); dspex.CodeOf(err) != dspex.CodeCanceled && dspex.CodeOf(err) != dspex.CodeDeadlineExceeded {
						t.Errorf("call %s: %v", text, err)
					}
					cancel()
				}
			})
		}
		callers.Wait()
		serial += n
	}
	type measure struct {
		goroutines, files int
		heap              uint64
		worker            dspex.Info
	}
	look := func() (m measure) {
		if err := rt.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		runtime.GC()
		var memory runtime.MemStats
		runtime.ReadMemStats(&memory)
		m.heap, m.goroutines, m.files = memory.HeapAlloc, runtime.NumGoroutine(), len(descriptors(t))
		var err error
		if m.worker, err = dspex.InfoOf(t.Context(), rt); err != nil {
			t.Fatal(err)
		}
		return m
	}
	leave(rounds(5_000, 300)) // What is kept for reuse is there now.
	before := look()
	leave(rounds(10_000, 600))
	after := look()
	for range 1_000 { // Goroutines that have done their work may not have ended yet.
		if after.goroutines <= before.goroutines {
			break
		}
		runtime.Gosched()
		after.goroutines = runtime.NumGoroutine()
	}
	t.Logf("before %+v, after %+v", before, after)
	if after.goroutines > before.goroutines || after.files != before.files {
		t.Errorf("%d goroutines and %d files, before %d and %d", after.goroutines, after.files, before.goroutines, before.files)
	}
	if after.heap > before.heap+1<<20 {
		t.Errorf("the heap has %d bytes, before %d", after.heap, before.heap)
	}
	a, b := after.worker, before.worker
	if a.PID != b.PID || a.Calls != 1 || a.Programs != 1 || a.Threads != b.Threads || a.Descriptors != b.Descriptors {
		t.Errorf("the worker has changed: %+v, before %+v", a, b)
	}
	// The loop's own, one for each slot kept for reuse, and the one that answers.
	if limit := 32 + 2; a.Greenlets > max(b.Greenlets, limit) {
		t.Errorf("the worker has %d greenlets, before %d", a.Greenlets, b.Greenlets)
	}
	if a.PrivateDirty > b.PrivateDirty+1<<10 {
		t.Errorf("the worker has %d KiB of its own, before %d", a.PrivateDirty, b.PrivateDirty)
	}
}

// A canceled call that waits for its model stops and gives its slot to the next one,
// also with 256 in flight.
func TestFault_B8_CancelReachesPython(t *testing.T) {
	parallel(t)
	const inFlight = 256
	arrived := make(chan string, inFlight)
	model := scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		arrived <- asked(req)
		<-ctx.Done()
		return "", ctx.Err()
	})
	rt := openDebug(t, dspex.Config{LM: model, Settings: dspex.Settings{Max: 1, Slots: inFlight}})
	limit := within(50 * time.Millisecond)

	// One that waits in Python itself, where no answer of the model's ends the waiting.
	ctx, cancel := context.WithCancel(t.Context())
	slept := make(chan error, 1)
	go func() {
		_, err := dspex.Misbehave(ctx, rt, map[string]any{"op": "sleep", "seconds": 60})
		slept <- err
	}()
	for calls := 0; calls != 2; { // The sleeping one, and the one that asks.
		info, err := dspex.InfoOf(t.Context(), rt)
		if err != nil {
			t.Fatal(err)
		}
		calls = info.Calls
	}
	canceled := time.Now()
	cancel()
	if err := rt.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(canceled); took > limit {
		t.Errorf("a sleeping call had stopped after %v, want at most %v", took, limit)
	}
	if err := <-slept; !errors.Is(err, context.Canceled) {
		t.Errorf("the sleeping call: %v, want canceled", err)
	}

	program := dspex.Predict[question, answer]("")
	results := make(chan error, 2*inFlight)
	cancels := make(map[string]context.CancelFunc)
	start := func(i int) string {
		text := fmt.Sprintf("question %d", i)
		ctx, cancel := context.WithCancel(t.Context())
		cancels[text] = cancel
		go func() { results <- ask(ctx, rt, program, text) }()
		return text
	}
	for i := range inFlight {
		start(i)
	}
	for range inFlight {
		<-arrived
	}
	var took []time.Duration
	n := rounds(2_000, 20)
	for i := range n {
		next := start(inFlight + i)
		until(t, rt, "a caller in the queue", queued(1))
		victim := slices.Collect(maps.Keys(cancels))[0]
		if victim == next {
			victim = slices.Collect(maps.Keys(cancels))[1]
		}
		began := time.Now()
		cancels[victim]()
		delete(cancels, victim)
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Fatalf("the canceled call: %v", err)
		}
		if got := <-arrived; got != next { // It has the slot and has reached its model.
			t.Fatalf("%q has reached its model, not %q", got, next)
		}
		took = append(took, time.Since(began))
	}
	slices.Sort(took)
	t.Logf("the next call was there after %v (p50), %v (all)", took[n/2], took[n-1])
	if took[n*99/100] > limit {
		t.Errorf("a slot was free after %v, want at most %v", took[n*99/100], limit)
	}
	began := time.Now()
	for _, cancel := range cancels {
		cancel()
	}
	if err := rt.Idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Logf("all %d calls were canceled in %v", inFlight, time.Since(began))
	for range inFlight {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Errorf("a canceled call: %v", err)
		}
	}
	if stats := rt.Stats(); stats.Lost != 0 || stats.Slots != inFlight {
		t.Errorf("the pool has changed: %+v", stats)
	}
}

// A canceled call that is stuck in C code is killed after the grace and its worker
// replaced; what else was on the worker is made elsewhere.
func TestFault_B8_StuckInCIsKilledAfterTheGrace(t *testing.T) {
	parallel(t)
	held := newCounting(2)
	var log logs
	rt := openDebug(t, dspex.Config{
		LM: held.model(), Logger: log.logger(),
		Settings: dspex.Settings{Max: 1, CancelGrace: 100 * time.Millisecond},
	})
	other := make(chan error, 1)
	go func() { other <- ask(t.Context(), rt, dspex.Predict[question, answer](""), "on the same worker") }()
	<-held.arrived
	before := rt.Stats().Workers[0]
	ctx, cancel := context.WithCancel(t.Context())
	go func() { log.wait(t, "spinning in C"); cancel() }()
	if _, err := dspex.Misbehave(ctx, rt, map[string]any{"op": "spin_c", "seconds": 60}); !errors.Is(err, context.Canceled) {
		t.Errorf("the stuck call: %v, want canceled", err)
	}
	log.wait(t, "answered from the journal")
	close(held.release)
	if err := <-other; err != nil {
		t.Errorf("a call on the stuck worker: %v", err)
	}
	held.check(t, 1)
	stats := rt.Stats()
	if stats.Lost != 1 || len(stats.Workers) != 1 || stats.Workers[0].PID == before.PID {
		t.Errorf("the worker was not replaced: %+v", stats)
	}
	if !strings.Contains(log.String(), "did not stop within 100ms") {
		t.Error("the log does not tell why the worker was killed")
	}
}

// Slots are exact whatever becomes of calls: a sequence of random operations, checked
// after each step.
func TestFault_B9_SlotsAreExactUnderEveryExit(t *testing.T) {
	parallel(t)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var cancels sync.Map
	model := scripted.New(scripted.Config{Keep: -1, Answer: func(ctx context.Context, req *lm.Request) (*lm.Response, error) {
		text := asked(req)
		kind, _, _ := strings.Cut(text, " ")
		switch kind {
		case "error":
			return nil, lm.Errorf(lm.KindServer, "test", "no")
		case "prose":
			return scripted.Text("I do not know."), nil
		case "panic":
			panic("in the model")
		case "cancel", "late":
			cancel, _ := cancels.LoadAndDelete(text)
			cancel.(context.CancelFunc)()
			if kind == "cancel" {
				<-ctx.Done()
				return nil, ctx.Err()
			}
		case "wait":
			<-ctx.Done()
			return nil, ctx.Err()
		}
		return scripted.Text(completion(text)), nil
	}})
	const workers, slots = 2, 3
	rt := openDebug(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: workers, Max: workers, Slots: slots}})
	program := dspex.Predict[question, answer]("")
	or := func(codes ...dspex.Code) []dspex.Code { return append(codes, dspex.CodeWorkerLost) }
	misbehave := func(op map[string]any) func(ctx context.Context, text string) error {
		return func(ctx context.Context, _ string) error {
			_, err := dspex.Misbehave(ctx, rt, op)
			return err
		}
	}
	asking := func(ctx context.Context, text string) error { return ask(ctx, rt, program, text) }
	// A call may share its worker with one that ends it, twice, so that worker_lost is
	// legal everywhere.
	exits := []struct {
		kind string
		run  func(ctx context.Context, text string) error
		want []dspex.Code
	}{
		{"result", asking, or(0)},
		{"result", asking, or(0)},
		{"error", asking, or(dspex.CodeLM)},
		{"prose", asking, or(dspex.CodeParseFailed)},
		{"panic", asking, or(dspex.CodeInternal)},
		{"cancel", asking, or(dspex.CodeCanceled)},
		{"late", asking, or(dspex.CodeCanceled, 0)},
		{"wait", asking, or(dspex.CodeDeadlineExceeded)},
		{"raise", misbehave(map[string]any{"op": "raise", "type": "RuntimeError"}), or(dspex.CodePython)},
		{"refuse", misbehave(map[string]any{"op": "no such"}), or(dspex.CodeInvalidArgument)},
		{"exit", misbehave(map[string]any{"op": "exit", "code": 3}), or()},
		{"garbage", misbehave(map[string]any{"op": "garbage"}), or()},
	}
	counts := make(map[string]int)
	for step := range rounds(5_000, 50) {
		var calls sync.WaitGroup
		for i := range 1 + random.IntN(2*workers*slots) {
			exit := exits[random.IntN(len(exits))]
			patience := time.Duration(1+random.IntN(20)) * time.Millisecond
			counts[exit.kind]++
			calls.Go(func() {
				text := fmt.Sprintf("%s %d.%d", exit.kind, step, i)
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				if exit.kind == "cancel" || exit.kind == "late" {
					cancels.Store(text, cancel)
				}
				if exit.kind == "wait" {
					ctx, cancel = context.WithTimeout(ctx, patience)
					defer cancel()
				}
				if code := dspex.CodeOf(exit.run(ctx, text)); !slices.Contains(exit.want, code) {
					t.Errorf("step %d, %s: got %v, want one of %v", step, text, code, exit.want)
				}
			})
		}
		calls.Wait()
		if err := rt.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := rt.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		stats := rt.Stats()
		busy := 0
		for _, w := range stats.Workers {
			busy += w.Calls
		}
		if stats.Running != 0 || stats.Queued != 0 || busy != 0 || stats.Slots != workers*slots {
			t.Fatalf("step %d: slots are not exact: %+v", step, stats)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%v; %d workers lost", counts, rt.Stats().Lost)
}

// Thousands may queue: first come, first served, whoever leaves in between, in little
// memory; one more is refused.
func TestFault_B10_ThousandsQueue(t *testing.T) {
	parallel(t)
	n := rounds(10_000, 500)
	held := newCounting(n + 1)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Max: 1, Slots: 1, Queue: n}})
	program := dspex.Predict[question, answer]("")
	results := make(chan error, n+1)
	go func() { results <- ask(t.Context(), rt, program, "first") }()
	<-held.arrived
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var leavers []context.CancelFunc
	var order []string
	began := time.Now()
	for i := range n {
		text := fmt.Sprintf("question %d", i)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel() //nolint:gocritic // it is called at the end or below
		if i%2 == 0 {
			order = append(order, text)
		} else {
			leavers = append(leavers, cancel)
		}
		go func() { results <- ask(ctx, rt, program, text) }()
		until(t, rt, "one more in the queue", queued(i+1))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / int64(n)
	t.Logf("%d callers came in %v, each takes %d bytes", n, time.Since(began), each)
	if each > 64<<10 {
		t.Errorf("a caller in the queue takes %d bytes", each)
	}
	if err := ask(t.Context(), rt, program, "one too many"); dspex.CodeOf(err) != dspex.CodeOverloaded {
		t.Errorf("one more caller: %v, want overloaded", err)
	}
	began = time.Now()
	for _, cancel := range leavers {
		cancel()
	}
	for range leavers {
		if err := <-results; !errors.Is(err, context.Canceled) {
			t.Fatalf("a caller that left: %v", err)
		}
	}
	t.Logf("%d left in %v", len(leavers), time.Since(began))
	close(held.release)
	for range len(order) + 1 {
		if err := <-results; err != nil {
			t.Fatal(err)
		}
	}
	for i, want := range order {
		if got := <-held.arrived; got != want {
			t.Fatalf("caller %d to be served was %q, want %q", i, got, want)
		}
	}
}
