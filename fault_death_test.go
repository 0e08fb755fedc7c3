//go:build linux

package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// handle returns a pidfd, which is closed at the end of the test.
func handle(t *testing.T, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatalf("pidfd of %d: %v", pid, err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// readable waits until one of the descriptors is readable.
func readable(t *testing.T, what string, fds ...int) {
	t.Helper()
	var poll []unix.PollFd
	for _, fd := range fds {
		poll = append(poll, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	for start := time.Now(); time.Since(start) < 10*time.Second; {
		n, err := unix.Poll(poll, 1000)
		if err != nil && !errors.Is(err, unix.EINTR) {
			t.Fatal(err)
		}
		if n > 0 {
			return
		}
	}
	t.Fatalf("waited in vain for %s", what)
}

// slay kills a process if it still is a child of this one, and reports whether it was. It
// may have ended meanwhile, and its number may be somebody else's.
func slay(t *testing.T, pid int) bool {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return false
	}
	defer func() { _ = unix.Close(fd) }()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(stat), ") ")
	if fields := strings.Fields(rest); len(fields) < 2 || fields[1] != strconv.Itoa(os.Getpid()) {
		return false
	}
	return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) == nil
}

// arrival returns when a worker, which must be stopped, has bytes to read on its socket.
func arrival(t *testing.T, w dspex.WorkerStats) {
	t.Helper()
	entries, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", w.PID))
	if err != nil {
		t.Fatal(err)
	}
	process := handle(t, w.PID)
	var sockets []int
	for _, entry := range entries {
		if target, err := os.Readlink(entry); err != nil || !strings.HasPrefix(target, "socket:") {
			continue
		}
		number, err := strconv.Atoi(filepath.Base(entry))
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.PidfdGetfd(process, number, 0)
		if err != nil {
			t.Skipf("the kernel does not let a test look at its child's socket: %v", err)
		}
		defer func() { _ = unix.Close(fd) }() //nolint:gocritic // they are few, and needed until the end
		sockets = append(sockets, fd)
	}
	readable(t, "bytes on the worker's socket", sockets...)
}

// offspring has some worker start a process of its own, and returns that one's pidfd.
func offspring(t *testing.T, rt *dspex.Runtime) int {
	t.Helper()
	out, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "subprocess", "argv": []string{"sleep", "60"}})
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(strings.Trim(strings.TrimPrefix(string(out), `{"pid":`), "} "))
	if err != nil {
		t.Fatalf("%s: %v", out, err)
	}
	return handle(t, pid)
}

// A worker that dies between being chosen and being written to costs nothing: the call
// goes to another one.
func TestFault_A3_DeathBeforeTheWriteCostsNothing(t *testing.T) {
	parallel(t)
	n := rounds(2_000, 20)
	held := newCounting(n + 1)
	close(held.release)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Slots: 4}})
	program := dspex.Predict[question, answer]("")
	call := func(i int) *dspex.Prediction[answer] {
		text := fmt.Sprintf("question %d", i)
		pred, err := program.Run(t.Context(), rt, question{text})
		if err != nil || pred.Output.Answer != text {
			t.Fatalf("call %d: %+v, %v", i, pred, err)
		}
		return pred
	}
	last := call(0).Worker
	for i := range n {
		// Among idle workers the last used one is chosen.
		process := handle(t, last.PID)
		kill(t, dspex.WorkerStats{Worker: last})
		readable(t, "the end of the worker", process)
		pred := call(i + 1)
		if pred.Reruns != 0 {
			t.Errorf("call %d was run %d times more", i, pred.Reruns)
		}
		last = pred.Worker
		if err := rt.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	held.check(t, n+1)
}

// A failed write concerns the call that was being written, and no other. Since the worker
// cannot have understood a part of it, it is made on another one.
func TestFault_A8_FailedWriteConcernsItsCallOnly(t *testing.T) {
	parallel(t)
	held := newCounting(8)
	rt := openDebug(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Slots: 1}})
	program := dspex.Predict[question, answer]("")
	type outcome struct {
		pred *dspex.Prediction[answer]
		err  error
	}
	results := make(chan outcome, 3)
	run := func(text string) {
		pred, err := program.Run(t.Context(), rt, question{text})
		results <- outcome{pred, err}
	}
	go run("on the other worker")
	<-held.arrived
	workers := rt.Stats().Workers
	broken := workers[slices.IndexFunc(workers, func(w dspex.WorkerStats) bool { return w.Calls == 0 })]
	signal(t, broken, syscall.SIGSTOP)
	written := make(chan error, 1)
	go func() { // More than the socket takes.
		_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "print", "text": strings.Repeat("x", 1<<20)})
		written <- err
	}()
	arrival(t, broken)
	for i := range 2 {
		go run(fmt.Sprintf("queued %d", i))
	}
	until(t, rt, "two callers in the queue", queued(2))
	kill(t, broken)
	close(held.release)
	if err := <-written; err != nil {
		t.Errorf("the call that was being written: %v", err)
	}
	for range 3 {
		if got := <-results; got.err != nil || got.pred.Reruns != 0 {
			t.Errorf("another call: %+v, %v", got.pred, got.err)
		}
	}
	held.check(t, 3)
	if lost := rt.Stats().Lost; lost != 1 {
		t.Errorf("%d workers were lost, want 1", lost)
	}
}

// A worker may be killed at any step: built-in modules do not notice, other calls fail as
// worker_lost with the signal and the last words, the worker's children are gone, nothing
// else notices.
func TestFault_C6_KilledAtEveryStep(t *testing.T) {
	parallel(t)
	program := dspex.Predict[question, answer]("")
	setup := func(t *testing.T) (*dspex.Runtime, *counting, *logs) {
		t.Helper()
		held, log := newCounting(8), new(logs)
		rt := openDebug(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{Max: 1, Slots: 4}})
		return rt, held, log
	}
	type outcome struct {
		pred *dspex.Prediction[answer]
		err  error
	}
	run := func(t *testing.T, rt *dspex.Runtime, text string) <-chan outcome {
		t.Helper()
		result := make(chan outcome, 1)
		go func() {
			pred, err := program.Run(t.Context(), rt, question{text})
			result <- outcome{pred, err}
		}()
		return result
	}
	lost := func(t *testing.T, rt *dspex.Runtime) {
		t.Helper()
		if n := rt.Stats().Lost; n != 1 {
			t.Errorf("%d workers were lost, want 1", n)
		}
	}
	after := func(t *testing.T, rt *dspex.Runtime, killed dspex.WorkerStats, children ...int) {
		t.Helper()
		for _, child := range children {
			readable(t, "the end of the worker's child", child)
		}
		if err := rt.Idle(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := ask(t.Context(), rt, program, "afterwards"); err != nil {
			t.Errorf("the next call: %v", err)
		}
		if stats := rt.Stats(); len(stats.Workers) != 1 || stats.Workers[0].PID == killed.PID {
			t.Errorf("one worker was killed: %+v", stats)
		}
	}
	t.Run("idle", func(t *testing.T) {
		parallel(t)
		rt, held, _ := setup(t)
		close(held.release)
		child, worker := offspring(t, rt), rt.Stats().Workers[0]
		kill(t, worker)
		after(t, rt, worker, child)
		lost(t, rt)
	})
	t.Run("while a call is sent", func(t *testing.T) {
		parallel(t)
		rt, held, _ := setup(t)
		close(held.release)
		child, worker := offspring(t, rt), rt.Stats().Workers[0]
		signal(t, worker, syscall.SIGSTOP)
		text := strings.Repeat("x", 1<<20) // More than the socket takes.
		result := run(t, rt, text)
		arrival(t, worker)
		kill(t, worker)
		if got := <-result; got.err != nil || got.pred.Output.Answer != text {
			t.Errorf("the call: %.200v", got.err)
		}
		held.check(t, 1)
		after(t, rt, worker, child)
		lost(t, rt)
	})
	t.Run("while the model answers", func(t *testing.T) {
		parallel(t)
		rt, held, log := setup(t)
		child, worker := offspring(t, rt), rt.Stats().Workers[0]
		if _, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "print", "stderr": 1, "text": "last words"}); err != nil {
			t.Fatal(err)
		}
		log.wait(t, "last words")
		result := run(t, rt, "Who?")
		<-held.arrived
		user := make(chan error, 1)
		go func() {
			_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "sleep", "seconds": 60})
			user <- err
		}()
		until(t, rt, "two calls", func(s dspex.Stats) bool { return s.Running == 2 })
		// The worker answers in order, so that it has the other call.
		if _, err := dspex.InfoOf(t.Context(), rt); err != nil {
			t.Fatal(err)
		}
		kill(t, worker)
		var e *dspex.Error
		if err := <-user; !errors.As(err, &e) || e.Code != dspex.CodeWorkerLost || e.Worker != worker.ID ||
			!strings.Contains(e.Message, "SIGKILL") || e.Python == nil || !slices.Contains(e.Python.Stderr, "last words") {
			t.Errorf("a call that cannot be run again: %+v, want worker_lost with the signal and the last words", err)
		}
		close(held.release)
		if got := <-result; got.err != nil || got.pred.Reruns != 1 {
			t.Errorf("the call: %+v, %v", got.pred, got.err)
		}
		held.check(t, 1)
		after(t, rt, worker, child)
		lost(t, rt)
	})
	t.Run("draining", func(t *testing.T) {
		parallel(t)
		rt, held, _ := setup(t)
		child, worker := offspring(t, rt), rt.Stats().Workers[0]
		result := run(t, rt, "Who?")
		<-held.arrived
		reset := make(chan error, 1)
		go func() { reset <- rt.Reset(t.Context()) }()
		until(t, rt, "a draining worker", func(s dspex.Stats) bool {
			return slices.ContainsFunc(s.Workers, func(w dspex.WorkerStats) bool { return w.State == "draining" })
		})
		beside := run(t, rt, "on the new worker")
		<-held.arrived
		kill(t, worker)
		if err := <-reset; err != nil {
			t.Errorf("reset: %v", err)
		}
		close(held.release)
		if got := <-result; got.err != nil || got.pred.Reruns != 1 {
			t.Errorf("the call: %+v, %v", got.pred, got.err)
		}
		if got := <-beside; got.err != nil || got.pred.Reruns != 0 {
			t.Errorf("a call on the new worker: %+v, %v", got.pred, got.err)
		}
		held.check(t, 2)
		// One that dies while it drains may count as stopped.
		after(t, rt, worker, child)
	})
}

// Workers that are killed while they start, or shake hands, are started again; calls do
// not notice. It runs alone, since it finds the new worker among this process's children.
func TestFault_C6_KilledWhileStarting(t *testing.T) {
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 1, Max: 1}})
	program := dspex.Predict[question, answer]("")
	for i := range rounds(50, 4) {
		known := children(t)
		failed := rt.Stats().StartFailures + rt.Stats().Lost
		reset := make(chan error, 1)
		go func() { reset <- rt.Reset(t.Context()) }()
		var fresh int
		for fresh == 0 {
			for _, pid := range children(t) {
				if !slices.Contains(known, pid) {
					fresh = pid
				}
			}
		}
		// At once, or up to where it has answered.
		for start, later := time.Now(), time.Duration(i%4)*500*time.Microsecond; time.Since(start) < later; {
			if err := ask(t.Context(), rt, program, "meanwhile"); err != nil {
				t.Fatal(err)
			}
		}
		killed := slay(t, fresh)
		if err := ask(t.Context(), rt, program, "afterwards"); err != nil {
			t.Error(err)
		}
		if err := <-reset; err != nil {
			t.Errorf("reset: %v", err)
		}
		if err := rt.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		stats := rt.Stats()
		t.Logf("killed %t; %d start failures, %d lost", killed, stats.StartFailures, stats.Lost)
		if killed {
			until(t, rt, "notice of the death", func(s dspex.Stats) bool { return s.StartFailures+s.Lost > failed })
		}
	}
}

// When the fork server is killed, calls go on, and workers can be started again. It runs
// alone, since it finds the fork server among this process's children.
func TestFault_C7_KilledForkServerIsNotNoticed(t *testing.T) {
	held := newCounting(8)
	before := children(t)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2}})
	program := dspex.Predict[question, answer]("")
	results := make(chan error, 4)
	for i := range 4 {
		go func() { results <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
		<-held.arrived
	}
	known := append(before, pids(rt.Stats())...)
	servers := slices.DeleteFunc(children(t), func(pid int) bool { return slices.Contains(known, pid) })
	if len(servers) != 1 {
		t.Fatalf("the fork server is one of %v", servers)
	}
	process := handle(t, servers[0])
	if !slay(t, servers[0]) {
		t.Fatal("the fork server was not there")
	}
	readable(t, "the end of the fork server", process)
	stats := rt.Stats()
	if stats.Lost != 0 {
		t.Errorf("workers died with the fork server: %+v", stats)
	}
	kill(t, stats.Workers[0]) // Its successor needs a fork server.
	close(held.release)
	for range 4 {
		if err := <-results; err != nil {
			t.Error(err)
		}
	}
	held.check(t, 4)
	if err := waitLost(t, rt, 1); err != nil {
		t.Fatal(err)
	}
	if err := rt.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := rt.Reset(t.Context()); err != nil {
		t.Errorf("reset: %v", err)
	}
	if got := rt.Stats(); got.Lost != 1 || len(got.Workers) != 2 {
		t.Errorf("the pool is not whole again: %+v", got)
	}
}

// However user code ends a call or its worker, the caller learns the cause, and nothing
// of the worker is left.
func TestFault_C10_TheCauseReachesTheCaller(t *testing.T) {
	parallel(t)
	rt := openDebug(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Max: 1}})
	tests := []struct {
		name string
		op   map[string]any
		code dspex.Code
		says []string // all of them somewhere in the error
	}{
		{"os._exit", map[string]any{"op": "exit", "code": 7}, dspex.CodeWorkerLost, []string{"exited with status 7"}},
		{"segmentation fault", map[string]any{"op": "signal", "signal": 11}, dspex.CodeWorkerLost, []string{"SIGSEGV", "Segmentation fault"}},
		{"abort", map[string]any{"op": "signal", "signal": 6}, dspex.CodeWorkerLost, []string{"SIGABRT"}},
		{"sys.exit", map[string]any{"op": "raise", "type": "SystemExit"}, dspex.CodePython, []string{"SystemExit"}},
		{"endless recursion", map[string]any{"op": "recurse"}, dspex.CodePython, []string{"RecursionError", "maximum recursion depth"}},
		{"out of memory", map[string]any{"op": "allocate", "mb": 1 << 30}, dspex.CodePython, []string{"MemoryError"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			child, worker := offspring(t, rt), rt.Stats().Workers[0]
			_, err := dspex.Misbehave(t.Context(), rt, tt.op)
			var e *dspex.Error
			if !errors.As(err, &e) || e.Code != tt.code || e.Worker != worker.ID {
				t.Fatalf("got %v, want %v of worker %s", err, tt.code, worker.ID)
			}
			text := err.Error()
			if e.Python != nil {
				text += e.Python.Type + pythonText(e.Python)
			}
			for _, want := range tt.says {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in %q", want, text)
				}
			}
			if tt.code == dspex.CodeWorkerLost {
				readable(t, "the end of the worker's child", child)
			}
			if err := ask(t.Context(), rt, dspex.Predict[question, answer](""), "afterwards"); err != nil {
				t.Errorf("the next call: %v", err)
			}
			if same := rt.Stats().Workers[0].ID == worker.ID; same != (tt.code == dspex.CodePython) {
				t.Errorf("the worker is the same: %t", same)
			}
		})
	}
}

// A program made anywhere runs anywhere, always: every call succeeds while workers are
// killed and replaced.
func TestFault_F1_CallsSucceedWhileWorkersAreReplaced(t *testing.T) {
	parallel(t)
	const together = 25 // Calls between two kills, so that no call is on two dying workers.
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	var (
		mu     sync.Mutex
		times  = make(map[string]int)
		strike atomic.Pointer[func()] // what happens when left has come to 0
		left   atomic.Int64           // requests of the model
	)
	model := scripted.New(scripted.Config{Keep: -1, Answer: func(_ context.Context, req *lm.Request) (*lm.Response, error) {
		text := asked(req)
		mu.Lock()
		times[text]++
		mu.Unlock()
		if left.Add(-1) == 0 {
			(*strike.Load())()
		}
		return scripted.Text("[[ ## reasoning ## ]]\nIt is so.\n\n" + completion(text)), nil
	}})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 3, Slots: 8}})
	kinds := []func(string, ...dspex.ProgramOption) *dspex.Program[question, answer]{
		dspex.Predict[question, answer], dspex.ChainOfThought[question, answer],
	}
	var reruns atomic.Int64
	n := rounds(10_000, 100)
	for round := range n / together {
		// A few programs are new to every worker.
		program := kinds[round%len(kinds)](fmt.Sprintf("Answer as in round %d.", round/3))
		reset := make(chan error, 1)
		victim := random.IntN(3)
		var killed dspex.WorkerStats
		f := func() {
			if round%5 == 4 {
				go func() { reset <- rt.Reset(t.Context()) }()
				return
			}
			workers := rt.Stats().Workers
			killed = workers[victim%len(workers)]
			slay(t, killed.PID)
			reset <- nil
		}
		strike.Store(&f)
		left.Store(int64(1 + random.IntN(together)))
		var calls sync.WaitGroup
		for i := range together {
			calls.Go(func() {
				text := fmt.Sprintf("question %d of round %d", i, round)
				pred, err := program.Run(t.Context(), rt, question{text})
				if err != nil || pred.Output.Answer != text {
					t.Errorf("%s: %+v, %v", text, pred, err)
					return
				}
				reruns.Add(int64(pred.Reruns))
			})
		}
		calls.Wait()
		if err := <-reset; err != nil {
			t.Errorf("reset: %v", err)
		}
		if t.Failed() {
			return
		}
		// The next calls must not be sent to a worker that is about to die.
		until(t, rt, "notice of the death", func(s dspex.Stats) bool {
			return !slices.ContainsFunc(s.Workers, func(w dspex.WorkerStats) bool { return w.ID == killed.ID })
		})
	}
	stats := rt.Stats()
	t.Logf("%d calls, %d run again, %d workers started, %d lost", n, reruns.Load(), stats.Started, stats.Lost)
	for text, n := range times {
		if n != 1 {
			t.Errorf("the model was asked %q %d times", text, n)
		}
	}
	if len(times) != n || stats.Lost == 0 {
		t.Errorf("%d questions of %d calls, %d workers lost", len(times), n, stats.Lost)
	}
}

// What was answered once is not asked again: neither when a call of several requests is
// run again, nor is anything merged that was asked for twice.
func TestFault_F8_NothingIsAskedTwiceOrMerged(t *testing.T) {
	parallel(t)
	type request struct {
		rollout int64
		json    bool
	}
	asks := make(chan request, 16)
	release := make(chan struct{})
	model := scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		r := request{json: req.Config.ResponseFormat != nil || !strings.Contains(textOf(req.Messages[0])+req.System, "[[ ## answer ## ]]")}
		if req.RolloutID != nil {
			r.rollout = *req.RolloutID
		}
		for _, part := range req.SystemParts {
			if strings.Contains(part.Text, "[[ ## answer ## ]]") {
				r.json = false
			}
		}
		asks <- r
		if asked(req) == "in prose" && !r.json {
			return "I do not speak the format.", nil
		}
		select {
		case <-release:
		case <-ctx.Done():
			return "", ctx.Err()
		}
		if r.json {
			return `{"answer": "at last"}`, nil
		}
		return completion(fmt.Sprint(r.rollout)), nil
	})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Max: 1}})
	program := dspex.Predict[question, answer]("")
	type outcome struct {
		pred *dspex.Prediction[answer]
		err  error
	}
	results := make(chan outcome, 8)
	run := func(text string, opts ...dspex.CallOption) {
		pred, err := program.Run(t.Context(), rt, question{text}, opts...)
		results <- outcome{pred, err}
	}

	// The chat adapter cannot read the first answer, so DSPy asks again in JSON; the worker
	// dies between the two.
	go run("in prose", dspex.WithAdapter("chat"))
	for _, json := range []bool{false, true} {
		if got := <-asks; got.json != json {
			t.Fatalf("the model was asked %+v, want json=%t", got, json)
		}
	}
	kill(t, rt.Stats().Workers[0])
	if err := waitLost(t, rt, 1); err != nil {
		t.Fatal(err)
	}
	// The same question thrice, two of them as samples of their own.
	go run("the same")
	for i := range 2 {
		go run("the same", dspex.WithRollout(int64(i+1)))
	}
	var rollouts []int64
	for range 3 {
		rollouts = append(rollouts, (<-asks).rollout)
	}
	slices.Sort(rollouts)
	if !slices.Equal(rollouts, []int64{0, 1, 2}) {
		t.Errorf("the model was asked for the samples %v, want 0, 1 and 2", rollouts)
	}
	close(release)
	for range 4 {
		got := <-results
		switch {
		case got.err != nil:
			t.Error(got.err)
		case got.pred.Output.Answer == "at last" && (got.pred.Reruns != 1 || len(got.pred.Calls) != 2):
			t.Errorf("the call that was run again: %+v", got.pred)
		}
	}
	select {
	case again := <-asks:
		t.Errorf("the model was asked once more: %+v", again)
	default:
	}
}
