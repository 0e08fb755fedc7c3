//go:build linux

package dspex_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
	"github.com/dspex/dspex/store/sqlite"
)

// statsOf returns a worker's statistics.
func statsOf(t *testing.T, rt *dspex.Runtime, id string) dspex.WorkerStats {
	t.Helper()
	workers := rt.Stats().Workers
	i := slices.IndexFunc(workers, func(w dspex.WorkerStats) bool { return w.ID == id })
	if i < 0 {
		t.Fatalf("there is no worker %s", id)
	}
	return workers[i]
}

// leisurely is echoing that takes a few milliseconds for each answer, not always the same,
// so that calls overlap as those of real models do.
func leisurely() *scripted.Model {
	return scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		select {
		case <-time.After(time.Millisecond + rand.N(4*time.Millisecond)):
			return completion(asked(req)), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
}

// A soft session stays on its worker under normal load: beside callers without a session,
// and with pauses between its calls in which others take the worker's place.
func TestFault_F4_SoftSessionStaysOnItsWorker(t *testing.T) {
	t.Parallel()
	const sessions, others = 8, 4
	calls := rounds(2_500, 25)
	rt := open(t, dspex.Config{LM: leisurely(), Settings: dspex.Settings{Min: 3, Max: 3}})
	program := dspex.Predict[question, answer]("")
	var (
		same, moved atomic.Int64
		used        sync.Map
		wait, rest  sync.WaitGroup
		done        = make(chan struct{})
	)
	for i := range others {
		rest.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-done:
					return
				default:
				}
				if err := ask(t.Context(), rt, program, fmt.Sprint("other ", i, ", call ", n)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for i := range sessions {
		wait.Go(func() {
			var last string
			s := rt.Session(fmt.Sprint("soft-", i), dspex.Soft)
			for n := range calls {
				text := fmt.Sprint("session ", i, ", call ", n)
				pred, err := program.Run(t.Context(), s, question{text})
				if err != nil {
					t.Error(err)
					return
				}
				switch {
				case pred.Output.Answer != text:
					t.Errorf("the answer to %q is %q", text, pred.Output.Answer)
				case pred.Worker.ID == last:
					same.Add(1)
				case last != "":
					moved.Add(1)
				}
				last = pred.Worker.ID
				used.Store(last, true)
				<-time.After(rand.N(4 * time.Millisecond)) // The user reads the answer.
			}
		})
	}
	wait.Wait()
	close(done)
	rest.Wait()
	workers := len(maps.Collect(used.Range))
	share := float64(same.Load()) / float64(same.Load()+moved.Load())
	t.Logf("%.2f %% of %d calls were on the worker of the one before; %d workers", 100*share, same.Load()+moved.Load(), workers)
	if workers < 2 {
		t.Error("all sessions were on one worker: that they stay shows nothing")
	}
	if share < 0.95 {
		t.Errorf("only %.1f %% of the calls were on the worker of the one before", 100*share)
	}
}

// When its worker dies, a soft session moves, and what it remembers is intact; no call of
// it fails, the running ones included.
func TestFault_F4_SoftSessionMovesWithItsState(t *testing.T) {
	t.Parallel()
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
	program := dspex.Predict[question, answer]("")
	s := rt.Session("soft", dspex.Soft)
	ctx := t.Context()
	n := rounds(200, 3)
	for i := range n {
		text := fmt.Sprint("question ", i)
		pred, err := program.Run(ctx, s, question{text})
		must(t, err)
		must(t, s.Append(ctx, map[string]string{"question": text, "answer": pred.Output.Answer}))
		must(t, s.Update(ctx, "turns", func(old json.RawMessage) (any, error) {
			var turns int
			if old != nil {
				if err := json.Unmarshal(old, &turns); err != nil {
					return nil, err
				}
			}
			return turns + 1, nil
		}))
		// While another call of the session is being killed.
		after := make(chan error, 1)
		go func() {
			_, err := program.Run(ctx, s, question{text})
			after <- err
		}()
		kill(t, statsOf(t, rt, pred.Worker.ID))
		must(t, <-after)
		next, err := program.Run(ctx, s, question{text})
		must(t, err)
		if next.Worker.ID == pred.Worker.ID {
			t.Errorf("round %d: a dead worker answered", i)
		}
		var turns int
		if ok, err := s.Get(ctx, "turns", &turns); !ok || err != nil || turns != i+1 {
			t.Errorf("round %d: %d turns are remembered, %v, %v", i, turns, ok, err)
		}
		must(t, rt.Ready(ctx))
	}
	history, err := s.History(ctx)
	must(t, err)
	if want := min(n, 100); len(history) != want {
		t.Errorf("%d turns, want %d", len(history), want)
	}
	if moved := rt.SessionStats().Moved; moved < uint64(n) {
		t.Errorf("moved %d times, want at least %d", moved, n)
	}
}

// The first two calls of a hard session, made at once, land on one worker, also when both
// had to wait and slots on several workers are freed together.
func TestFault_F4_FirstCallsOfHardSessionsLandOnOneWorker(t *testing.T) {
	t.Parallel()
	const workers, slots = 3, 2
	var (
		blocking = make(chan struct{}, workers*slots)
		release  atomic.Pointer[chan struct{}]
	)
	held := scripted.Func(func(_ context.Context, req *lm.Request) (string, error) {
		text := asked(req)
		if text == "block" {
			until := *release.Load()
			blocking <- struct{}{}
			<-until
		}
		return completion(text), nil
	})
	rt := open(t, dspex.Config{LM: held, Settings: dspex.Settings{Min: workers, Max: workers, Slots: slots}})
	program := dspex.Predict[question, answer]("")
	used := make(map[string]int)
	for i := range rounds(1_000, 10) {
		until := make(chan struct{})
		release.Store(&until)
		var wait sync.WaitGroup
		for range workers * slots {
			wait.Go(func() {
				if err := ask(t.Context(), rt, program, "block"); err != nil {
					t.Error(err)
				}
			})
		}
		for range workers * slots {
			<-blocking
		}
		on := make(chan string, 2)
		for range 2 {
			wait.Go(func() {
				pred, err := program.Run(t.Context(), rt.Session(fmt.Sprint("hard-", i), dspex.Hard), question{"Who?"})
				if err != nil {
					t.Error(err)
					return
				}
				on <- pred.Worker.ID
			})
		}
		for rt.Stats().Queued == 0 {
			runtime.Gosched() // One waits for a slot, the other for the one's choice.
		}
		close(until)
		wait.Wait()
		close(on)
		a, b := <-on, <-on
		if a != b {
			t.Fatalf("session %d is on %s and on %s", i, a, b)
		}
		used[a]++
	}
	t.Logf("sessions by worker: %v", used)
}

// The death of a hard session's worker is told exactly once, also to calls that are made
// at once; what comes after belongs to the next epoch, on one new worker.
func TestFault_F4_HardSessionIsLostExactlyOnce(t *testing.T) {
	t.Parallel()
	const calls = 32
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
	program := dspex.Predict[question, answer]("")
	s := rt.Session("hard", dspex.Hard)
	pred, err := program.Run(t.Context(), s, question{"Who?"})
	must(t, err)
	worker := pred.Worker.ID
	for i := range uint64(rounds(300, 3)) {
		if epoch := s.Epoch(); epoch != i+1 {
			t.Fatalf("round %d is in epoch %d", i, epoch)
		}
		kill(t, statsOf(t, rt, worker))
		must(t, waitLost(t, rt, i+1))
		var lost atomic.Int64
		begin := make(chan struct{})
		workers := make(chan string, calls)
		var wait sync.WaitGroup
		for range calls {
			wait.Go(func() {
				<-begin
				pred, err := program.Run(t.Context(), s, question{"Who?"})
				var e *dspex.Error
				switch {
				case err == nil:
					workers <- pred.Worker.ID
				case errors.As(err, &e) && e.Code == dspex.CodeSessionLost && e.Epoch == i+1 && e.Worker == worker:
					lost.Add(1)
				default:
					t.Errorf("round %d: %v", i, err)
				}
			})
		}
		close(begin)
		wait.Wait()
		close(workers)
		if n := lost.Load(); n != 1 {
			t.Fatalf("round %d: %d calls were told of the loss, want 1", i, n)
		}
		next := <-workers
		if next == worker {
			t.Errorf("round %d: a dead worker answered", i)
		}
		for w := range workers {
			if w != next {
				t.Errorf("round %d: the new epoch is on %s and on %s", i, next, w)
			}
		}
		worker = next
		must(t, rt.Ready(t.Context()))
	}
}

// Of the calls that a hard session's worker was running when it died, one is told that
// the session is lost and the others that their worker is; none is run a second time.
func TestFault_F4_RunningCallsOfALostHardSession(t *testing.T) {
	t.Parallel()
	n := rounds(1_000, 10)
	held := newCounting(n + 1)
	rt := open(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Min: 2, Max: 2, Slots: n}})
	program := dspex.Predict[question, answer]("")
	s := rt.Session("hard", dspex.Hard)
	codes := make(chan dspex.Code, n)
	for i := range n {
		go func() {
			_, err := program.Run(t.Context(), s, question{fmt.Sprint("question ", i)})
			var e *dspex.Error
			if errors.As(err, &e) && e.Code == dspex.CodeSessionLost && e.Epoch != 1 {
				t.Errorf("epoch %d was lost, want 1", e.Epoch)
			}
			codes <- dspex.CodeOf(err)
		}()
	}
	for range n {
		<-held.arrived
	}
	workers := rt.Stats().Workers
	busy := slices.DeleteFunc(workers, func(w dspex.WorkerStats) bool { return w.Calls == 0 })
	if len(busy) != 1 || busy[0].Calls != n {
		t.Fatalf("busy are %+v, want one with %d calls", busy, n)
	}
	kill(t, busy[0])
	count := make(map[dspex.Code]int)
	for range n {
		count[<-codes]++
	}
	if count[dspex.CodeSessionLost] != 1 || count[dspex.CodeWorkerLost] != n-1 {
		t.Errorf("got %v, want 1 session_lost and %d worker_lost", count, n-1)
	}
	close(held.release)
	pred, err := program.Run(t.Context(), s, question{"after"})
	must(t, err)
	if pred.Worker.ID == busy[0].ID || s.Epoch() != 2 {
		t.Errorf("on %s in epoch %d", pred.Worker.ID, s.Epoch())
	}
	held.check(t, n+1)
}

// eachStore runs a test with each kind of store.
func eachStore(t *testing.T, test func(t *testing.T, store dspex.Store)) {
	t.Helper()
	t.Run("memory", func(t *testing.T) {
		t.Parallel()
		test(t, dspex.NewMemoryStore())
	})
	t.Run("sqlite", func(t *testing.T) {
		t.Parallel()
		store, err := sqlite.Open(t.Context(), filepath.Join(t.TempDir(), "sessions.db"))
		must(t, err)
		t.Cleanup(func() { must(t, store.Close()) })
		test(t, store)
	})
}

// A session is remembered for its TTL after its last use of any kind, to the nanosecond.
func TestFault_F5_SessionsExpireWhenTheSettingSaysSo(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store dspex.Store) {
		const ttl = 10 * time.Minute
		now := newClock()
		rt := open(t, dspex.Config{LM: echoing(), Store: store, Now: now.read, Settings: dspex.Settings{
			Session: dspex.SessionSettings{TTL: ttl},
		}})
		ctx := t.Context()
		s := rt.Session("s", dspex.Hard)
		uses := map[string]func() error{
			"Set":    func() error { return s.Set(ctx, "k", 1) },
			"Get":    func() error { _, err := s.Get(ctx, "k", new(int)); return err },
			"Append": func() error { return s.Append(ctx, question{"Who?"}) },
			"Delete": func() error { return s.Delete(ctx, "other") },
			"Run": func() error {
				_, err := dspex.Predict[question, answer]("").Run(ctx, s, question{"Who?"})
				return err
			},
		}
		remembered := func() bool {
			ok, err := s.Get(ctx, "k", new(int))
			must(t, err)
			return ok
		}
		for name, use := range uses {
			must(t, s.Set(ctx, "k", 1))
			now.advance(ttl - 1)
			must(t, use())
			now.advance(ttl - 1)
			if !remembered() {
				t.Errorf("%s did not put off the end", name)
			}
			now.advance(ttl)
			if remembered() {
				t.Errorf("after %s, the session was remembered for longer than its TTL", name)
			}
			if epoch := s.Epoch(); epoch != 0 {
				t.Errorf("after %s, the worker was kept for longer than the TTL: epoch %d", name, epoch)
			}
		}
		must(t, rt.Session("another", dspex.Soft).Set(ctx, "k", 1))
		if n, err := store.Len(ctx); n != 1 || err != nil {
			t.Errorf("%d sessions are remembered, %v; want the last one alone", n, err)
		}
		if stats := rt.SessionStats(); stats.Created != uint64(len(uses))+1 || stats.Expired != uint64(len(uses)) {
			t.Errorf("%+v", stats)
		}
	})
}

// However many sessions come and go, only so many are remembered, and their memory is
// given back.
func TestFault_F5_SessionsAreBounded(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store dspex.Store) {
		const limit = 100
		now := newClock()
		rt := lazily(t, dspex.Config{Store: store, Now: now.read, Settings: dspex.Settings{
			Session: dspex.SessionSettings{Max: limit, TTL: time.Hour},
		}})
		ctx := t.Context()
		value := make([]byte, 10_000)
		created := 0
		var heap []uint64
		for generation := range rounds(200, 4) {
			var refused atomic.Int64
			var wait sync.WaitGroup
			for i := range limit + 10 {
				wait.Go(func() {
					err := rt.Session(fmt.Sprint(generation, "-", i), dspex.Soft).Set(ctx, "k", value)
					var e *dspex.Error
					switch {
					case errors.As(err, &e) && e.Code == dspex.CodeOverloaded && e.Retryable:
						refused.Add(1)
					case err != nil:
						t.Error(err)
					}
				})
			}
			wait.Wait()
			created += limit
			n, err := store.Len(ctx)
			must(t, err)
			if n != limit || refused.Load() != 10 {
				t.Fatalf("generation %d: %d sessions, %d refused; want %d and 10", generation, n, refused.Load(), limit)
			}
			now.advance(time.Hour)
			runtime.GC()
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			heap = append(heap, m.HeapAlloc)
		}
		stats := rt.SessionStats()
		if stats.Created != uint64(created) || stats.Expired != uint64(created-limit) || stats.Refused != uint64(created/10) {
			t.Errorf("%+v after %d sessions", stats, created)
		}
		t.Logf("heap after the first generation %d KiB, after the last %d KiB", heap[0]>>10, heap[len(heap)-1]>>10)
		// The tests beside this one use memory too: only what would add up is looked for.
		if grown := int64(heap[len(heap)-1]) - int64(heap[0]); full() && grown > 20<<20 {
			t.Errorf("the heap grew by %d bytes over %d sessions of %d", grown, created, len(value))
		}
	})
}

// A session's counters are exact, whoever counts at the same time; so are the Runtime's.
func TestFault_F5_CountersAreExact(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, store dspex.Store) {
		const clients, sessions = 16, 5
		each := rounds(2_500, 50)
		rt := open(t, dspex.Config{LM: echoing(), Store: store, Settings: dspex.Settings{Min: 2, Max: 2}})
		program := dspex.Predict[question, answer]("")
		ctx := t.Context()
		increment := func(old json.RawMessage) (any, error) {
			var n int
			if old != nil {
				if err := json.Unmarshal(old, &n); err != nil {
					return nil, err
				}
			}
			return n + 1, nil
		}
		var wait sync.WaitGroup
		for c := range clients {
			wait.Go(func() {
				for i := range each {
					s := rt.Session(fmt.Sprint((c+i)%sessions), dspex.Soft)
					if i%10 == 0 {
						if _, err := program.Run(ctx, s, question{"Who?"}); err != nil {
							t.Error(err)
						}
					}
					if err := s.Update(ctx, "n", increment); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wait.Wait()
		total := 0
		for i := range sessions {
			s := rt.Session(fmt.Sprint(i), dspex.Soft)
			var n int
			if _, err := s.Get(ctx, "n", &n); err != nil {
				t.Error(err)
			}
			total += n
		}
		for i := range 2 {
			must(t, rt.Session(fmt.Sprint(i), dspex.Soft).End(ctx))
		}
		if total != clients*each {
			t.Errorf("counted %d of %d", total, clients*each)
		}
		if stats := rt.SessionStats(); stats.Created != sessions || stats.Ended != 2 || stats.Expired != 0 || stats.Placed != sessions-2 {
			t.Errorf("%+v", stats)
		}
	})
}
