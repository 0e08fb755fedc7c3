//go:build unix

package process_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
)

// modes runs a test with forked and with spawned workers.
func modes(t *testing.T, test func(t *testing.T, o process.ServerOptions)) {
	t.Helper()
	for _, kind := range []process.Kind{process.Fork, process.Spawn} {
		t.Run(string(kind), func(t *testing.T) {
			o := options(t)
			o.Spawn = kind == process.Spawn
			test(t, o)
		})
	}
}

func TestAWorkerAnswersAndItsExitStatusIsKnown(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		if want := map[bool]process.Kind{false: process.Fork, true: process.Spawn}[o.Spawn]; s.Mode().Kind != want {
			t.Fatalf("mode is %v, want %v", s.Mode(), want)
		}
		if l := s.Lifeline(); !l.Kernel {
			t.Fatalf("lifeline: %v", l)
		}
		w := startWorker(t, s, process.WorkerOptions{ID: "w7", Options: map[string]any{"a": 1.0}})
		want := map[string]any{"hello": "w7", "pid": float64(w.PID()), "options": map[string]any{"a": 1.0}}
		if diff := cmp.Diff(want, w.hello(t)); diff != "" {
			t.Errorf("hello (-want +got):\n%s", diff)
		}
		if err := w.send("exit", map[string]any{"code": 3}); err != nil {
			t.Fatal(err)
		}
		if exit := ended(t, w.Process); exit != (process.Exit{Code: 3}) {
			t.Errorf("exit is %v", exit)
		}
	})
}

func TestManyWorkersAreMadeAtOnce(t *testing.T) {
	s := startServer(t, options(t))
	var wg sync.WaitGroup
	pids := make([]int, 24)
	for i := range pids {
		wg.Go(func() {
			w := startWorker(t, s, process.WorkerOptions{ID: fmt.Sprintf("w%d", i)})
			hello := w.hello(t)
			if hello["hello"] != w.ID() || int(hello["pid"].(float64)) != w.PID() {
				t.Errorf("worker %s, pid %d, says %v", w.ID(), w.PID(), hello)
			}
			pids[i] = w.PID()
		})
	}
	wg.Wait()
	seen := map[int]bool{}
	for _, pid := range pids {
		if seen[pid] {
			t.Errorf("pid %d twice", pid)
		}
		seen[pid] = true
	}
}

func TestEveryForkedWorkerHasRandomNumbersOfItsOwn(t *testing.T) {
	s := startServer(t, options(t))
	a, b := startWorker(t, s, process.WorkerOptions{}), startWorker(t, s, process.WorkerOptions{})
	a.hello(t)
	b.hello(t)
	if x, y := a.do(t, "random", nil), b.do(t, "random", nil); x == y {
		t.Errorf("both drew %v", x)
	}
}

func TestAWorkerHasOnlyItsOwnDescriptors(t *testing.T) {
	s := startServer(t, options(t))
	first := startWorker(t, s, process.WorkerOptions{})
	first.hello(t)
	w := startWorker(t, s, process.WorkerOptions{})
	w.hello(t)
	fds, ok := w.do(t, "fds", nil).(map[string]any)
	if !ok {
		t.Fatal("no descriptors")
	}
	kinds := map[string]int{}
	for fd, target := range fds {
		kind, _, _ := strings.Cut(target.(string), ":")
		if fd == "0" && kind != "/dev/null" {
			t.Errorf("standard input is %s", target)
		}
		kinds[kind]++
	}
	// stdout, stderr, lifeline and stacks are pipes.
	if kinds["pipe"] != 4 || kinds["socket"] != 1 || len(fds) != 6 {
		t.Errorf("descriptors: %v", fds)
	}
}

func TestThreadsAfterPreloadingMeanSpawnWithTheReason(t *testing.T) {
	o := options(t)
	o.Warm = "workers:preload_with_thread"
	s := startServer(t, o)
	if mode := s.Mode(); mode.Kind != process.Spawn || !strings.Contains(mode.Reason, "lazy-thread") {
		t.Errorf("mode is %v", mode)
	}
	w := startWorker(t, s, process.WorkerOptions{ID: "w1"})
	w.hello(t)
}

func TestSocketsAfterPreloadingMeanSpawnWithTheReason(t *testing.T) {
	o := options(t)
	o.Warm = "workers:preload_with_socket"
	s := startServer(t, o)
	if mode := s.Mode(); mode.Kind != process.Spawn || !strings.Contains(mode.Reason, "AF_INET ('127.0.0.1', ") {
		t.Errorf("mode is %v", mode)
	}
}

func TestWithoutAProvenLifelineWorkersAreSpawnedAndWatchForTheEndOfFile(t *testing.T) {
	o := options(t)
	o.Python.Env[0] = strings.Replace(o.Python.Env[0], "=", "="+absolute(t, "testdata/unarmed")+":", 1)
	s := startServer(t, o)
	if l := s.Lifeline(); l.Kernel || !strings.Contains(l.Reason, "cannot choose the signal") {
		t.Errorf("lifeline: %v", l)
	}
	if mode := s.Mode(); mode.Kind != process.Spawn || mode.Reason == "" {
		t.Errorf("mode: %v", mode)
	}
	w := startWorker(t, s, process.WorkerOptions{})
	w.hello(t)
	threads := w.do(t, "run", map[string]any{"code": "import threading; result = [t.name for t in threading.enumerate()]"})
	if diff := cmp.Diff([]any{"MainThread", "dspex-lifeline"}, threads); diff != "" {
		t.Errorf("threads (-want +got):\n%s", diff)
	}
}

func TestStopEndsWorkersAndRefusesNewOnes(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		w := startWorker(t, s, process.WorkerOptions{})
		w.hello(t)
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		select {
		case <-w.Done():
		default:
			t.Error("the worker runs on")
		}
		if _, err := s.Worker(t.Context(), process.WorkerOptions{ID: "late"}); !errors.Is(err, status.ErrClosed) {
			t.Errorf("want closed, got %v", err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Errorf("second Stop: %v", err)
		}
	})
}

func TestAStartThatIsGivenUpLeavesNothing(t *testing.T) {
	defer verifyNone(t)
	o := options(t)
	o.Warm = "workers:preload_that_hangs"
	printed := newLines()
	o.OnLine = printed.on
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() {
		s, err := process.StartServer(ctx, o)
		if err == nil {
			err = errors.Join(errors.New("it started"), s.Stop(ctx))
		}
		result <- err
	}()
	printed.wait(t, "stdout: hanging")
	cancel()
	if err := <-result; status.CodeOf(err) != status.Canceled {
		t.Errorf("want canceled, got %v", err)
	}
}

func TestAWorkerThatIsGivenUpIsEnded(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), time.Duration(i)*100*time.Microsecond)
			p, err := s.Worker(ctx, process.WorkerOptions{ID: "hasty"})
			cancel()
			switch {
			case err == nil:
				p.Kill()
				<-p.Done()
				_ = p.Conn().Close()
			case status.CodeOf(err) != status.DeadlineExceeded:
				t.Errorf("want deadline_exceeded, got %v", err)
			}
		}
	})
}

func TestOptionsThatCannotBeSentAreTypedErrors(t *testing.T) {
	s := startServer(t, options(t))
	for name, options := range map[string]map[string]any{
		"not JSON": {"f": func() {}},
		"too long": {"s": strings.Repeat("x", 1<<20)},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := s.Worker(t.Context(), process.WorkerOptions{ID: "w", Options: options}); status.CodeOf(err) != status.InvalidArgument {
				t.Errorf("want invalid_argument, got %v", err)
			}
		})
	}
	startWorker(t, s, process.WorkerOptions{}).hello(t) // the fork server is unharmed
}

func TestStacksAreReadEvenWhileCHoldsTheGIL(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		printed := newLines()
		w := startWorker(t, s, process.WorkerOptions{OnLine: printed.on})
		w.hello(t)
		if err := w.send("run", map[string]any{"code": "def stuck():\n print('spinning', flush=True)\n sum(range(10**15))\nstuck()"}); err != nil {
			t.Fatal(err)
		}
		printed.wait(t, "stdout: spinning")
		for range 2 { // it can be asked again
			text, err := w.Stacks(t.Context())
			if err != nil || !strings.Contains(text, "in stuck") || !strings.Contains(text, "thread 0x") {
				t.Errorf("stacks: %v\n%s", err, text)
			}
		}
	})
}

func BenchmarkForkToMain(b *testing.B) {
	s := startServer(b, options(b))
	for b.Loop() {
		w := startWorker(b, s, process.WorkerOptions{ID: "w"})
		w.hello(b)
		b.StopTimer()
		w.Kill()
		<-w.Done()
		b.StartTimer()
	}
}
