//go:build linux

package dspex_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// interpreter is a Python whose starts a test can hold up, break and count.
type interpreter struct {
	path, dir string
	arrived   *os.File // each start that is held up writes a line
	gate      *os.File // and reads one before it goes on
}

func newInterpreter(t *testing.T) *interpreter {
	t.Helper()
	env, err := pyenv.Ensure(t.Context(), pyenv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	p := &interpreter{dir: t.TempDir()}
	p.path = filepath.Join(p.dir, "python")
	script := fmt.Sprintf(`#!/bin/sh
cd '%s'
echo run >> runs
if [ -e broken ]; then echo 'the disk is full' >&2; exit 3; fi
if [ -e held ]; then echo arrived > arrived; read line < gate; fi
exec '%s' "$@"
`, p.dir, env.Python)
	if err := os.WriteFile(p.path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	p.arrived, p.gate = p.fifo(t, "arrived"), p.fifo(t, "gate")
	return p
}

// fifo makes a pipe with a name, opened for both sides so that neither ever ends.
func (p *interpreter) fifo(t *testing.T, name string) *os.File {
	t.Helper()
	path := filepath.Join(p.dir, name)
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// flag makes further starts be held or broken, or mends them.
func (p *interpreter) flag(t *testing.T, name string, on bool) {
	t.Helper()
	path := filepath.Join(p.dir, name)
	err := os.Remove(path)
	if on {
		err = os.WriteFile(path, nil, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// await returns when n starts are held up.
func (p *interpreter) await(t *testing.T, n int) {
	t.Helper()
	if err := p.arrived.SetReadDeadline(time.Now().Add(30 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for range n * len("arrived\n") {
		if _, err := p.arrived.Read(make([]byte, 1)); err != nil {
			t.Fatalf("fewer than %d starts are held up: %v", n, err)
		}
	}
}

// release lets n starts go on.
func (p *interpreter) release(t *testing.T, n int) {
	t.Helper()
	if _, err := p.gate.WriteString(strings.Repeat("go\n", n)); err != nil {
		t.Fatal(err)
	}
}

func (p *interpreter) runs(t *testing.T) int {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(p.dir, "runs"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.Count(string(data), "run")
}

// holding is a model that holds its answers back, one token of release for each.
type holding struct {
	arrived chan string
	release chan struct{}
}

func newHolding() *holding {
	return &holding{arrived: make(chan string, 1024), release: make(chan struct{}, 1024)}
}

// model answers at once what begins with "quick".
func (h *holding) model() *scripted.Model {
	return scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		text := asked(req)
		if strings.HasPrefix(text, "quick") {
			return completion(text), nil
		}
		h.arrived <- text
		select {
		case <-h.release:
			return completion(text), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
}

// calls runs n held calls in goroutines of their own.
func (h *holding) calls(t *testing.T, rt *dspex.Runtime, n int) *sync.WaitGroup {
	t.Helper()
	program := dspex.Predict[question, answer]("")
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			if err := ask(t.Context(), rt, program, fmt.Sprintf("held %d", i)); err != nil {
				t.Errorf("call %d: %v", i, err)
			}
		})
	}
	return &all
}

func (h *holding) await(t *testing.T, n int) {
	t.Helper()
	for i := range n {
		select {
		case <-h.arrived:
		case <-time.After(30 * time.Second):
			t.Fatalf("%d of %d calls have asked their model", i, n)
		}
	}
}

func (h *holding) let(n int) {
	for range n {
		h.release <- struct{}{}
	}
}

// A start that takes long keeps nobody from a worker that is ready; who has none waits
// until the deadline that he brought, and is served by the start if he brought none.
func TestFault_B2_SlowStartIsNotCheckout(t *testing.T) {
	t.Parallel()
	python, held := newInterpreter(t), newHolding()
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{
		Max: 2, Slots: 1, Python: dspex.PythonSettings{Path: python.path, Spawn: true},
	}})
	program := dspex.Predict[question, answer]("")
	python.flag(t, "held", true)
	busy := held.calls(t, rt, 1)
	held.await(t, 1)

	const patience = 300 * time.Millisecond
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	_, err := program.Run(ctx, rt, question{"quick"}) // The pool grows for it, in vain.
	took := time.Since(began)
	if !errors.Is(err, context.DeadlineExceeded) || dspex.CodeOf(err) != dspex.CodeDeadlineExceeded {
		t.Errorf("the caller without a worker got %v, want deadline_exceeded", err)
	}
	if most := patience + within(10*time.Millisecond); took < patience || took > most {
		t.Errorf("its deadline was %v, it was told after %v", patience, took)
	}
	python.await(t, 1)
	held.let(1)
	busy.Wait()
	for i := range rounds(1_000, 20) {
		pred, err := program.Run(t.Context(), rt, question{fmt.Sprintf("quick %d", i)})
		if err != nil {
			t.Fatal(err)
		}
		if pred.Timing.Queue != 0 {
			t.Errorf("a call waited %v for a worker although one was free", pred.Timing.Queue)
		}
	}
	busy = held.calls(t, rt, 2) // One on the worker there is, one for the one that starts.
	held.await(t, 1)
	python.release(t, 1)
	held.await(t, 1)
	held.let(2)
	busy.Wait()
	if n := python.runs(t); n > 4 { // The probe, the compilation of the sources, two workers.
		t.Errorf("the interpreter was executed %d times", n)
	}
}

// Workers start side by side.
func TestFault_B3_WorkersStartConcurrently(t *testing.T) {
	t.Parallel()
	python := newInterpreter(t)
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{
		Min: 2, Max: 2, Python: dspex.PythonSettings{Path: python.path, Spawn: true},
	}})
	if err := rt.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	python.flag(t, "held", true)
	for _, w := range rt.Stats().Workers {
		kill(t, w)
	}
	python.await(t, 2) // None of them has been released.
	python.release(t, 2)
	if err := rt.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// The calls on other workers hardly notice that one is being replaced.
func TestFault_B3_ReplacingDelaysNobodyElse(t *testing.T) {
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 3, Max: 3, Slots: 1}})
	program := dspex.Predict[question, answer]("")
	n := rounds(4_000, 400)
	seen := make(map[string]bool) // workers that have served: a first call takes longer
	load := func(disturb func(worker string)) time.Duration {
		var mu sync.Mutex
		var took []time.Duration
		var clients sync.WaitGroup
		for range 2 {
			clients.Go(func() {
				for i := range n {
					pred, err := program.Run(t.Context(), rt, question{fmt.Sprint(i)})
					if err != nil {
						t.Error(err)
						return
					}
					mu.Lock()
					if pred.Reruns == 0 && seen[pred.Worker.ID] {
						took = append(took, pred.Timing.Total)
					}
					seen[pred.Worker.ID] = true
					mu.Unlock()
					if disturb != nil && i%40 == 39 {
						disturb(pred.Worker.ID)
					}
				}
			})
		}
		clients.Wait()
		return percentile(took, 99)
	}
	load(nil)
	calm := load(nil)
	var turn sync.Mutex
	killed := make(map[string]bool)
	disturbed := load(func(id string) {
		turn.Lock()
		defer turn.Unlock()
		for _, w := range rt.Stats().Workers {
			if w.ID == id && !killed[id] {
				killed[id] = true
				kill(t, w)
			}
		}
	})
	t.Logf("p99 of a call: %v in peace, %v while workers are replaced; %d were lost", calm, disturbed, rt.Stats().Lost)
	if rt.Stats().Lost == 0 {
		t.Error("no worker was replaced")
	}
	if most := within(2 * calm); disturbed > most {
		t.Errorf("p99 is %v while workers are replaced, %v in peace", disturbed, calm)
	}
}

// percentile returns the duration that p percent of all do not exceed.
func percentile(all []time.Duration, p int) time.Duration {
	if len(all) == 0 {
		return 0
	}
	slices.Sort(all)
	return all[(len(all)*p+99)/100-1]
}

// A dead worker gets no calls, and another one is in its place at once.
func TestFault_B4_DeadWorkerIsNotInRotation(t *testing.T) {
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
	program := dspex.Predict[question, answer]("")
	dead := make(map[string]bool)
	var back []time.Duration
	for i := range rounds(1_000, 100) {
		victim := ""
		for j := range 3 {
			pred, err := program.Run(t.Context(), rt, question{fmt.Sprint(i, j)})
			if err != nil {
				t.Fatal(err)
			}
			if dead[pred.Worker.ID] {
				t.Fatalf("worker %s served after its death", pred.Worker.ID)
			}
			victim = pred.Worker.ID
		}
		began := time.Now()
		for _, w := range rt.Stats().Workers {
			if w.ID == victim {
				kill(t, w)
			}
		}
		for rt.Stats().Lost <= uint64(i) {
			<-time.After(100 * time.Microsecond) // Looking all the time would take a CPU from the fork.
		}
		dead[victim] = true
		if err := rt.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		back = append(back, time.Since(began))
	}
	p99 := percentile(back, 99)
	t.Logf("capacity was back after %v, p99 %v", percentile(back, 50), p99)
	if p99 > within(25*time.Millisecond) {
		t.Errorf("capacity was back after %v (p99)", p99)
	}
}

// Lazy starts nothing before it is asked for, then Min.
func TestFault_B11_Lazy(t *testing.T) {
	t.Parallel()
	lazy := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true, Min: 2, Max: 2}})
	if s := lazy.Stats(); s.Started != 0 {
		t.Errorf("%d workers were started before the first call", s.Started)
	}
	if err := ask(t.Context(), lazy, dspex.Predict[question, answer](""), "now?"); err != nil {
		t.Fatal(err)
	}
	if err := lazy.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	eager := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
	for _, rt := range []*dspex.Runtime{lazy, eager} {
		if s := rt.Stats(); s.Started != 2 || len(s.Workers) != 2 {
			t.Errorf("%d workers, %d were started, want 2", len(s.Workers), s.Started)
		}
	}
}

// Min workers are kept when there is nothing to do.
func TestFault_B11_Min(t *testing.T) {
	t.Parallel()
	for _, least := range []int{1, 3} {
		rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: least, Max: 4}})
		if s := rt.Stats(); len(s.Workers) != least {
			t.Errorf("%d workers with a minimum of %d", len(s.Workers), least)
		}
	}
}

// Max workers at most, however many call.
func TestFault_B11_Max(t *testing.T) {
	t.Parallel()
	held := newHolding()
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Max: 3, Slots: 1}})
	calls := held.calls(t, rt, 8)
	held.await(t, 3)
	if s := rt.Stats(); len(s.Workers) != 3 || s.Started != 3 || s.Running != 3 || s.Queued != 5 {
		t.Errorf("%d workers, %d started, %d calls running, %d queued; want 3, 3, 3, 5",
			len(s.Workers), s.Started, s.Running, s.Queued)
	}
	held.let(8)
	calls.Wait()
	if s := rt.Stats(); s.Started != 3 {
		t.Errorf("%d workers were started for 8 calls, want 3", s.Started)
	}
}

// Overflow workers live for as long as calls queue.
func TestFault_B11_Overflow(t *testing.T) {
	t.Parallel()
	held := newHolding()
	var log logs
	rt := open(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{
		Max: 1, Overflow: 1, Slots: 1,
	}})
	calls := held.calls(t, rt, 4)
	held.await(t, 2)
	if s := rt.Stats(); len(s.Workers) != 2 || s.Running != 2 || s.Queued != 2 {
		t.Errorf("%d workers, %d calls running, %d queued; want 2 each", len(s.Workers), s.Running, s.Queued)
	}
	held.let(4)
	calls.Wait()
	log.wait(t, "pool: stopped")
	if s := rt.Stats(); len(s.Workers) != 1 || s.Started != 2 {
		t.Errorf("%d workers are left, %d were started; want 1 and 2", len(s.Workers), s.Started)
	}
}

// Slots is how many calls one worker runs at once.
func TestFault_B11_Slots(t *testing.T) {
	t.Parallel()
	held := newHolding()
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Max: 1, Slots: 3}})
	calls := held.calls(t, rt, 5)
	held.await(t, 3)
	if s := rt.Stats(); s.Slots != 3 || s.Running != 3 || s.Queued != 2 {
		t.Errorf("%d slots, %d calls running, %d queued; want 3, 3, 2", s.Slots, s.Running, s.Queued)
	}
	held.let(1)
	held.await(t, 1)
	held.let(4)
	calls.Wait()
}

// Whatever workers are recycled for, no call under way is failed, cut or run again.
func TestFault_B13_RecyclingFailsNoCall(t *testing.T) {
	t.Parallel()
	base := dspex.Settings{Min: 2, Max: 2, Slots: 4}
	tests := []struct {
		name   string
		reason string // as the log has it
		set    func(s *dspex.Settings)
	}{
		{"requests", "it has served", func(s *dspex.Settings) { s.RecycleRequests = 10 }},
		{"age", "old\"", func(s *dspex.Settings) { s.RecycleAge = 200 * time.Millisecond }},
		{"memory", "bytes of memory", func(s *dspex.Settings) { s.RecycleMemory = 1 << 20 }},
		{"idle", "it was idle for", func(s *dspex.Settings) { s.RecycleIdle = 100 * time.Millisecond }},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var log logs
			config := dspex.Config{LM: echoing(), Logger: log.logger(), Settings: base}
			tt.set(&config.Settings)
			rt := open(t, config)
			program := dspex.Predict[question, answer]("")
			n, recycled := rounds(10_000, 100), uint64(rounds(200, 3))
			var next atomic.Int64
			run := func() bool {
				i := next.Add(1)
				text := fmt.Sprintf("question %d", i)
				pred, err := program.Run(t.Context(), rt, question{text})
				if err != nil {
					t.Errorf("%s: %v", text, err)
					return false
				}
				if pred.Output.Answer != text || pred.Reruns != 0 {
					t.Errorf("%s: the answer is %q, after %d reruns", text, pred.Output.Answer, pred.Reruns)
				}
				return i < int64(n) || rt.Stats().Started < 2+recycled
			}
			switch tt.name {
			case "idle":
				for i := range int(min(recycled, 20)) {
					run()
					log.waitMany(t, tt.reason, i+1)
				}
			default:
				if tt.name == "memory" {
					recycled = min(recycled, 10) // Each is looked at once a second.
				}
				var clients sync.WaitGroup
				for range 6 {
					clients.Go(func() {
						for run() && t.Context().Err() == nil {
						}
					})
				}
				clients.Wait()
			}
			log.waitMany(t, tt.reason, 1)
			s := rt.Stats()
			t.Logf("%d calls on %d workers", next.Load(), s.Started)
			if s.Lost != 0 {
				t.Errorf("%d workers were lost", s.Lost)
			}
		})
	}
}

// waitMany returns when text has been logged so many times.
func (l *logs) waitMany(tb testing.TB, text string, times int) {
	tb.Helper()
	l.wait(tb, text)
	for began := time.Now(); strings.Count(l.String(), text) < times; <-time.After(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			tb.Fatalf("%q was not logged %d times", text, times)
		}
	}
}

// A Python that cannot be started any more makes the pool say so, costs nothing, and is
// used again as soon as it can be.
func TestFault_B14_NoRestartStorm(t *testing.T) {
	python := newInterpreter(t)
	var log logs
	rt := open(t, dspex.Config{LM: echoing(), Logger: log.logger(), Settings: dspex.Settings{
		Max: 1, Python: dspex.PythonSettings{Path: python.path, Spawn: true},
	}})
	program := dspex.Predict[question, answer]("")
	python.flag(t, "broken", true)
	for _, w := range rt.Stats().Workers {
		kill(t, w)
	}
	log.wait(t, "pool: lost")
	unavailable := func() time.Duration {
		t.Helper()
		began := time.Now()
		err := ask(t.Context(), rt, program, "anybody?")
		var e *dspex.Error
		if !errors.As(err, &e) || e.Code != dspex.CodeUnavailable {
			t.Fatalf("got %v, want unavailable", err)
		}
		if !strings.Contains(e.Message, "the disk is full") || !e.Retryable || e.RetryAfter <= 0 {
			t.Errorf("no reason or no hint: %+v", e)
		}
		return time.Since(began)
	}
	unavailable()
	if took := unavailable(); took > within(time.Millisecond) {
		t.Errorf("refused after %v", took)
	}
	began, cpu, runs := time.Now(), cpuTime(t), python.runs(t)
	<-time.After(time.Duration(rounds(60_000, 1_500)) * time.Millisecond)
	share := float64(cpuTime(t)-cpu) / float64(time.Since(began))
	t.Logf("%d starts in %v, %.2f %% CPU", python.runs(t)-runs, time.Since(began).Round(time.Second), 100*share)
	if n, most := python.runs(t)-runs, 7; n > most { // After 1 s, 2 s, 4 s, 8 s, …
		t.Errorf("%d starts were tried in %v, want at most %d", n, time.Since(began), most)
	}
	if share > within(time.Second).Seconds()*0.005 {
		t.Errorf("waiting takes %.2f %% CPU", 100*share)
	}
	unavailable()
	python.flag(t, "broken", false)
	if err := rt.Ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := ask(t.Context(), rt, program, "now?"); err != nil {
		t.Error(err)
	}
}

// cpuTime is what this process and its children that have ended have used.
func cpuTime(t *testing.T) time.Duration {
	t.Helper()
	var sum time.Duration
	for _, who := range []int{syscall.RUSAGE_SELF, syscall.RUSAGE_CHILDREN} {
		var u syscall.Rusage
		if err := syscall.Getrusage(who, &u); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(u.Utime.Nano() + u.Stime.Nano())
	}
	return sum
}

// The pool grows for calls that wait, serves them, and goes back to Min when there is
// nothing to do, the last worker first.
func TestFault_B15_GrowsForWhoWaitsAndShrinksLastInFirstOut(t *testing.T) {
	t.Parallel()
	held := newHolding()
	var log logs
	rt := open(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{
		Min: 1, Max: 3, Overflow: 1, Slots: 1, IdleTimeout: 200 * time.Millisecond,
	}})
	first := rt.Stats().Workers[0].ID
	for round := range rounds(100, 2) {
		calls := held.calls(t, rt, 4)
		held.await(t, 4) // All of them, on one worker at first.
		if s := rt.Stats(); len(s.Workers) != 4 || s.Queued != 0 {
			t.Fatalf("%d workers, %d calls queued", len(s.Workers), s.Queued)
		}
		held.let(4)
		calls.Wait()
		log.waitMany(t, "pool: shrunk", 2*(round+1))
		log.waitMany(t, "pool: stopped", 3*(round+1))
		s := rt.Stats()
		if len(s.Workers) != 1 || s.Workers[0].ID != first || s.Lost != 0 {
			t.Fatalf("%+v are left, %d were lost; want %s alone", s.Workers, s.Lost, first)
		}
	}
	var seats []string
	for line := range strings.Lines(log.String()) {
		if strings.Contains(line, "pool: shrunk") {
			_, rest, _ := strings.Cut(line, "seat=")
			seats = append(seats, rest[:1])
		}
	}
	if want := strings.Repeat("21", len(seats)/2); strings.Join(seats, "") != want {
		t.Errorf("seats were given up in the order %v, want the last grown first", seats)
	}
}
