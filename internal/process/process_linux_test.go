package process_test

import (
	"context"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
)

// stopped stops a process and waits until it is.
func stopped(t testing.TB, pid int) {
	t.Helper()
	if err := unix.Kill(pid, unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	var info unix.Siginfo
	if err := unix.Waitid(unix.P_PID, pid, &info, unix.WSTOPPED|unix.WNOWAIT, nil); err != nil {
		t.Fatal(err)
	}
}

func TestAStoppedWorkerDiesWhenKilledAndGivesNoStacksInBoundedTime(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		w := startWorker(t, s, process.WorkerOptions{})
		w.hello(t)
		stopped(t, w.PID())
		began := time.Now()
		text, err := w.Stacks(t.Context())
		if took := time.Since(began); text != "" || err != nil || took > 2*time.Second {
			t.Errorf("stacks after %v: %q, %v", took, text, err)
		}
		w.Kill()
		if exit := ended(t, w.Process); exit != (process.Exit{Code: -1, Signal: syscall.SIGKILL, Killed: true}) {
			t.Errorf("exit is %v", exit)
		}
	})
}

func TestKillIsIdempotentFromEveryState(t *testing.T) {
	s := startServer(t, options(t))
	w := startWorker(t, s, process.WorkerOptions{})
	for range 3 {
		w.Kill() // perhaps before it has armed its lifeline
	}
	if exit := ended(t, w.Process); exit.Signal != syscall.SIGKILL {
		t.Errorf("exit is %v", exit)
	}
	w.Kill()
	if _, err := w.Stacks(t.Context()); status.CodeOf(err) != status.WorkerLost {
		t.Errorf("want worker_lost, got %v", err)
	}
}

func TestAWorkersChildrenDieWithIt(t *testing.T) {
	for _, end := range []string{"killed by the host", "killed by somebody else", "ended by itself"} {
		t.Run(end, func(t *testing.T) {
			modes(t, func(t *testing.T, o process.ServerOptions) {
				s := startServer(t, o)
				w := startWorker(t, s, process.WorkerOptions{})
				w.hello(t)
				watch := &observer{}
				sleep := []string{"sleep", "3600"}
				for _, op := range []hostOp{
					{"spawn", map[string]any{"argv": sleep}},
					{"spawn", map[string]any{"argv": sleep, "new_session": true}},
					{"fork_setsid", nil},
					{"forkpty", nil},
				} {
					pid, ok := w.do(t, op.Op, op.Args).(float64)
					if !ok {
						t.Fatalf("%s gave no pid", op.Op)
					}
					watch.hold(t, int(pid))
				}
				switch end {
				case "killed by the host":
					w.Kill()
				case "killed by somebody else":
					if err := unix.Kill(w.PID(), unix.SIGKILL); err != nil {
						t.Fatal(err)
					}
				default:
					if err := w.send("exit", map[string]any{"code": 0}); err != nil {
						t.Fatal(err)
					}
				}
				ended(t, w.Process)
				watch.gone(t, time.Now())
			})
		})
	}
}

func TestAStoppedForkServerHoldsUpNobodyPastHisDeadline(t *testing.T) {
	s := startServer(t, options(t))
	f := s.ForkServer()
	stopped(t, f.PID())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := s.Worker(ctx, process.WorkerOptions{ID: "late"}); status.CodeOf(err) != status.DeadlineExceeded {
		t.Errorf("want deadline_exceeded, got %v", err)
	}
	if err := unix.Kill(f.PID(), unix.SIGCONT); err != nil { // the worker comes after all
		t.Fatal(err)
	}
	startWorker(t, s, process.WorkerOptions{ID: "next"}).hello(t)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children left: %v", left)
	}
}
