//go:build linux

package dspex_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/dspex/dspex"
)

// stop stops a worker as a debugger does.
func stop(t *testing.T, w dspex.WorkerStats) {
	t.Helper()
	if err := syscall.Kill(w.PID, syscall.SIGSTOP); err != nil {
		t.Fatalf("stopping worker %s: %v", w.ID, err)
	}
}

// Checks take no time from calls and know who is well: a worker whose calls take long is,
// one that holds the interpreter is not, and is replaced.
func TestFault_B12_HealthChecksSeeTheTruth(t *testing.T) {
	t.Parallel()
	const bound = time.Second
	held := newHolding()
	var log logs
	rt := openDebug(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{
		Min: 1, Max: 1, StuckAfter: bound,
	}})
	program := dspex.Predict[question, answer]("")
	slow := held.calls(t, rt, 8)
	held.await(t, 8)
	var took []time.Duration
	for began, i := time.Now(), 0; time.Since(began) < 2*bound; i++ {
		pred, err := program.Run(t.Context(), rt, question{fmt.Sprintf("quick %d", i)})
		if err != nil {
			t.Fatal(err)
		}
		took = append(took, pred.Timing.Total)
	}
	if s := rt.Stats(); s.Lost != 0 {
		t.Errorf("%d workers were lost although each of them was well", s.Lost)
	}
	p99 := percentile(took, 99)
	t.Logf("%d calls beside checks every %v, p50 %v, p99 %v", len(took), bound/6, percentile(took, 50), p99)
	if p99 > within(10*time.Millisecond) {
		t.Errorf("p99 of a call beside the checks is %v", p99)
	}
	held.let(8)
	slow.Wait()

	_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "spin_c", "seconds": 60})
	var e *dspex.Error
	if !errors.As(err, &e) || e.Code != dspex.CodeWorkerLost || e.Worker == "" {
		t.Fatalf("got %v, want worker_lost", err)
	}
	if e.Python == nil || !strings.Contains(e.Python.Traceback, "_spin_c") {
		t.Errorf("the error does not tell where the worker was stuck: %+v", e.Python)
	}
	if err := ask(t.Context(), rt, program, "quick again"); err != nil {
		t.Error(err)
	}
}

// A stopped worker is found, killed and replaced within the bound, whether it has calls or
// not; its calls are run elsewhere.
func TestFault_C8_StoppedWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	bound := time.Second
	if full() {
		bound = 3 * time.Second
	}
	for _, busy := range []bool{false, true} {
		t.Run(fmt.Sprintf("busy=%t", busy), func(t *testing.T) {
			t.Parallel()
			held := newHolding()
			var log logs
			rt := open(t, dspex.Config{LM: held.model(), Logger: log.logger(), Settings: dspex.Settings{
				Min: 2, Max: 2, StuckAfter: bound,
			}})
			for i := range rounds(20, 1) {
				var calls sync.WaitGroup
				if busy {
					calls.Go(held.calls(t, rt, 2).Wait) // Least loaded first: one on each worker.
					held.await(t, 2)
				}
				began := time.Now()
				stop(t, rt.Stats().Workers[0])
				log.waitMany(t, "pool: lost", i+1)
				took := time.Since(began)
				if err := rt.Ready(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Logf("found after %v", took)
				if took > within(bound) {
					t.Errorf("the stopped worker was found after %v, the bound is %v", took, bound)
				}
				held.let(2)
				calls.Wait()
				for len(held.release) > 0 {
					<-held.release
				}
			}
			s := rt.Stats()
			if want := uint64(rounds(20, 1)); s.Lost != want || len(s.Workers) != 2 {
				t.Errorf("%d workers were lost, want %d; %d are there", s.Lost, want, len(s.Workers))
			}
		})
	}
}

// When the host was stopped itself, with its workers or without, it blames nobody for the
// time in which it did not look.
func TestFault_C12_StoppedHostBlamesNobody(t *testing.T) {
	t.Parallel()
	pause := 3 * time.Second // More than the host's bound.
	if full() {
		pause = time.Minute
	}
	for _, workersToo := range []bool{false, true} {
		t.Run(fmt.Sprintf("workers_too=%t", workersToo), func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), os.Args[0])
			cmd.Env = append(os.Environ(), hostVariable+"="+pausedState)
			cmd.Stderr = os.Stderr
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			said := bufio.NewReader(stdout)
			if line, err := said.ReadString('\n'); err != nil || line != "ready\n" {
				t.Fatalf("the host said %q: %v", line, err)
			}
			all := []int{cmd.Process.Pid}
			if workersToo {
				all = append(all, descendants(t, cmd.Process.Pid)...)
			}
			signal := func(s syscall.Signal) {
				for _, pid := range all {
					if err := syscall.Kill(pid, s); err != nil {
						t.Fatalf("signal %v to %d: %v", s, pid, err)
					}
				}
			}
			signal(syscall.SIGSTOP)
			<-time.After(pause)
			signal(syscall.SIGCONT)
			if err := stdin.Close(); err != nil {
				t.Fatal(err)
			}
			line, err := said.ReadString('\n')
			if err != nil || line != "0 lost, 0 failed\n" {
				t.Errorf("after the pause the host said %q: %v", line, err)
			}
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A worker with a limit refuses memory to the call that wants too much, and goes on.
func TestFault_C10_MemoryLimitIsAPythonErrorOfItsCall(t *testing.T) {
	t.Parallel()
	held := newHolding()
	rt := openDebug(t, dspex.Config{LM: held.model(), Settings: dspex.Settings{Max: 1, MemoryLimit: 1 << 30}})
	others := held.calls(t, rt, 4)
	held.await(t, 4)
	_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "allocate", "mb": 2048})
	var python *dspex.PythonError
	if dspex.CodeOf(err) != dspex.CodePython || !errors.As(err, &python) || !strings.Contains(python.Type, "MemoryError") {
		t.Errorf("got %v, want MemoryError", err)
	}
	if _, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "allocate", "mb": 64}); err != nil {
		t.Errorf("what is within the limit is refused: %v", err)
	}
	held.let(4)
	others.Wait()
	if s := rt.Stats(); s.Lost != 0 {
		t.Errorf("%d workers were lost", s.Lost)
	}
}
