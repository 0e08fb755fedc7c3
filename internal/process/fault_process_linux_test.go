package process_test

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
)

func TestFault_A6_AFailedStartExplainsItselfAtOnce(t *testing.T) {
	missing := func(t *testing.T, o *process.ServerOptions) { o.Python.Path = absolute(t, "testdata/no/python3") }
	forbidden := func(t *testing.T, o *process.ServerOptions) { o.Python.Path = absolute(t, "testdata/workers.py") }
	foreign := func(t *testing.T, o *process.ServerOptions) {
		o.Python.Path = filepath.Join(t.TempDir(), "python3")
		if err := os.WriteFile(o.Python.Path, []byte("\x7fELF for another machine"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name   string
		change func(t *testing.T, o *process.ServerOptions)
		want   []string
		python status.PythonError
	}{
		{"no interpreter", missing, []string{"no/python3", "there is no such file"}, status.PythonError{}},
		{"not executable", forbidden, []string{"workers.py", "may not be executed"}, status.PythonError{}},
		{"another machine", foreign, []string{"python3", "not a program for this machine"}, status.PythonError{}},
		{
			"preloading fails",
			func(_ *testing.T, o *process.ServerOptions) { o.Warm = "workers:preload_that_fails" },
			[]string{"fork server", "exited with status 1", "no model weights in /nowhere"},
			status.PythonError{Type: "RuntimeError", Message: "no model weights in /nowhere"},
		},
		{
			"a module is missing",
			func(_ *testing.T, o *process.ServerOptions) { o.Preload = []string{"no_such_module"} },
			[]string{"exited with status 1", "No module named 'no_such_module'"},
			status.PythonError{Type: "ModuleNotFoundError", Message: "No module named 'no_such_module'"},
		},
		{
			"it exits silently",
			func(_ *testing.T, o *process.ServerOptions) { o.Warm = "workers:preload_that_exits" },
			[]string{"exited with status 7", "printed nothing"},
			status.PythonError{},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			defer verifyNone(t)
			o := options(t)
			c.change(t, &o)
			began := time.Now()
			s, err := process.StartServer(t.Context(), o)
			if err == nil {
				_ = s.Stop(t.Context())
				t.Fatal("it started")
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("it took %v", took)
			}
			var e *status.Error
			if !errors.As(err, &e) || e.Code != status.Unavailable {
				t.Fatalf("want unavailable, got %v", err)
			}
			for _, want := range c.want {
				if !strings.Contains(e.Message, want) {
					t.Errorf("the message lacks %q: %s", want, e.Message)
				}
			}
			if strings.Contains(e.Message, "\n") {
				t.Errorf("more than one line: %q", e.Message)
			}
			var p status.PythonError
			if e.Python != nil {
				p = *e.Python
			}
			if p.Type != c.python.Type || p.Message != c.python.Message {
				t.Errorf("the exception is %q: %q", p.Type, p.Message)
			}
		})
	}
}

func TestFault_A6_AWorkerThatFailsTellsWhy(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		o.Main = "workers:main_that_fails"
		s := startServer(t, o)
		w := startWorker(t, s, process.WorkerOptions{ID: "w9"})
		if exit := ended(t, w.Process); exit != (process.Exit{Code: 1}) {
			t.Errorf("exit is %v", exit)
		}
		e := w.Failure("start", "worker")
		if e.Worker != "w9" || e.Python == nil || e.Python.Type != "RuntimeError" || !strings.Contains(e.Message, "this worker cannot start") {
			t.Errorf("failure is %v, %+v", e, e.Python)
		}
	})
}

func TestFault_C10_TheCauseOfAWorkersEndIsKnown(t *testing.T) {
	s := startServer(t, options(t))
	for _, c := range []struct {
		name, op string
		args     map[string]any
		want     process.Exit
		tail     string
	}{
		{"os._exit", "run", map[string]any{"code": "import os; os._exit(5)"}, process.Exit{Code: 5}, ""},
		{"sys.exit", "sys_exit", map[string]any{"code": 6}, process.Exit{Code: 6}, ""},
		{"sys.exit with a message", "sys_exit", map[string]any{"code": "bye"}, process.Exit{Code: 1}, "bye"},
		{"segmentation fault", "segfault", nil, process.Exit{Code: -1, Signal: syscall.SIGSEGV}, "Fatal Python error: Segmentation fault"},
		{"abort", "run", map[string]any{"code": "import os; os.abort()"}, process.Exit{Code: -1, Signal: syscall.SIGABRT}, "Fatal Python error: Aborted"},
		{"exception", "raise", nil, process.Exit{Code: 1}, "ValueError: as told"},
		{"recursion", "recurse", nil, process.Exit{Code: 1}, "RecursionError"},
		{"memory", "run", map[string]any{"code": "raise MemoryError('no room')"}, process.Exit{Code: 1}, "MemoryError: no room"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := startWorker(t, s, process.WorkerOptions{})
			w.hello(t)
			if err := w.send(c.op, c.args); err != nil {
				t.Fatal(err)
			}
			exit := ended(t, w.Process)
			exit.Core = false // as the machine is set up
			if exit != c.want {
				t.Errorf("exit is %v, want %v", exit, c.want)
			}
			if tail := strings.Join(w.Tail(), "\n"); !strings.Contains(tail, c.tail) {
				t.Errorf("the tail lacks %q:\n%s", c.tail, tail)
			}
		})
	}
}

func TestFault_C7_WorkersOutliveTheirForkServerAndNewOnesAreMade(t *testing.T) {
	s := startServer(t, options(t))
	old := startWorker(t, s, process.WorkerOptions{ID: "old"})
	old.hello(t)
	rounds := 2
	if full() {
		rounds = 6 // more would mostly be the pauses between restarts
	}
	for range rounds {
		f := s.ForkServer()
		if err := unix.Kill(f.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		w := startWorker(t, s, process.WorkerOptions{ID: "new"})
		w.hello(t)
		t.Logf("a worker answered %v after the fork server was killed", time.Since(began))
		if exit := ended(t, f); exit.Signal != syscall.SIGKILL {
			t.Errorf("the fork server %v", exit)
		}
		if next := s.ForkServer(); next == nil || next == f {
			t.Error("the fork server was not replaced")
		}
		old.do(t, "random", nil)
	}
	if err := old.send("exit", map[string]any{"code": 4}); err != nil {
		t.Fatal(err)
	}
	if exit := ended(t, old.Process); exit.Code != 4 {
		t.Errorf("the old worker's status was lost: %v", exit)
	}
}

func TestFault_C7_KillsInTheMiddleOfForksLoseNoProcess(t *testing.T) {
	s := startServer(t, options(t))
	rounds, kills := 10, 2
	if full() {
		rounds, kills = 1000, 6
	}
	made := make(chan *process.Process, rounds)
	go func() {
		defer close(made)
		for range rounds {
			p, err := s.Worker(t.Context(), process.WorkerOptions{ID: "w"})
			if err != nil {
				if status.CodeOf(err) != status.Unavailable {
					t.Errorf("want unavailable, got %v", err)
				}
				continue
			}
			made <- p
		}
	}()
	i := 0
	for p := range made {
		if i++; i%(rounds/kills) == 0 {
			if f := s.ForkServer(); f != nil {
				_ = unix.Kill(f.PID(), unix.SIGKILL) // our own child: not reaped, or it does not matter
			}
		}
		p.Kill()
		ended(t, p)
		_ = p.Conn().Close()
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children left: %v", left)
	}
}

func TestFault_C7_AWorkerWhoseForkServerDiedBeforeItsReplyIsNotLost(t *testing.T) {
	o := options(t)
	o.Warm = "workers:preload_that_dies_after_a_fork"
	o.Python.Env = append(o.Python.Env, "FAIL_FILE="+filepath.Join(t.TempDir(), "died"))
	s := startServer(t, o)
	f := s.ForkServer()
	w := startWorker(t, s, process.WorkerOptions{ID: "w1"})
	if exit := ended(t, f); exit.Signal != syscall.SIGKILL {
		t.Errorf("the fork server %v", exit)
	}
	if hello := w.hello(t); hello["hello"] != "w1" || hello["pid"] != float64(w.PID()) {
		t.Errorf("hello is %v, pid %d", hello, w.PID())
	}
	w.Kill()
	ended(t, w.Process)
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := children(t); len(left) > 0 {
		t.Errorf("children left: %v", left)
	}
}

func TestFault_C7_AForkServerThatCannotRestartIsReportedAtOnceAndRecovers(t *testing.T) {
	fail := filepath.Join(t.TempDir(), "fail")
	o := options(t)
	o.Warm = "workers:preload_once"
	o.Python.Env = append(o.Python.Env, "FAIL_FILE="+fail)
	s := startServer(t, o)
	if err := os.WriteFile(fail, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(s.ForkServer().PID(), unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	var e *status.Error
	_, err := s.Worker(t.Context(), process.WorkerOptions{ID: "w"})
	if !errors.As(err, &e) || e.Code != status.Unavailable || !e.Retryable || !strings.Contains(e.Message, "told to fail") {
		t.Fatalf("want unavailable with the reason, got %v", err)
	}
	if err := os.Remove(fail); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); ; {
		p, err := s.Worker(t.Context(), process.WorkerOptions{ID: "w"})
		if err == nil {
			p.Kill()
			ended(t, p)
			_ = p.Conn().Close()
			return
		}
		if !errors.As(err, &e) || e.Code != status.Unavailable || time.Now().After(deadline) {
			t.Fatalf("want unavailable until it recovers, got %v", err)
		}
		<-time.After(e.RetryAfter)
	}
}

func TestFault_C4_NothingIsLeftAfterStop(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		before := descriptors(t)
		marker := "DSPEX_TEST_MARKER=c4-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatBool(o.Spawn)
		o.Python.Env = append(o.Python.Env, marker)
		s, err := process.StartServer(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4 {
			w := startWorker(t, s, process.WorkerOptions{})
			w.hello(t)
			w.do(t, "spawn", map[string]any{"argv": []string{"sleep", "3600"}, "new_session": i%2 == 0})
			if i == 0 {
				w.Kill()
			}
			if err := w.Conn().Close(); err != nil {
				t.Error(err)
			}
		}
		if len(marked(t, marker)) == 0 {
			t.Error("no process has the marker: the check is void")
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
		for began := time.Now(); ; {
			left := marked(t, marker)
			if len(left) == 0 {
				break
			}
			if time.Since(began) > within(goneSmall) {
				t.Fatalf("processes left: %v", left)
			}
		}
		if left := children(t); len(left) > 0 {
			t.Errorf("children left: %v", left)
		}
		after := descriptors(t)
		for fd, what := range after {
			if _, known := before[fd]; !known && !strings.HasPrefix(what, "socket:") && !strings.HasPrefix(what, "/proc/") {
				t.Errorf("descriptor %s was left: %s", fd, what)
			}
		}
	})
}

func TestFault_C11_AKillNeverReachesAProcessThatReusedThePid(t *testing.T) {
	s := startServer(t, options(t))
	w := startWorker(t, s, process.WorkerOptions{})
	w.hello(t)
	if err := w.send("exit", map[string]any{"code": 0}); err != nil {
		t.Fatal(err)
	}
	ended(t, w.Process)
	innocent := reuse(t, w.PID())
	w.Kill()
	_, _ = w.Stacks(t.Context())
	if err := innocent.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	fds := []unix.PollFd{{Fd: int32(pidfd(t, innocent.Pid)), Events: unix.POLLIN}}
	if n, err := unix.Poll(fds, 50); n != 0 || err != nil {
		t.Errorf("the innocent process died: %d, %v", n, err)
	}
}

func pidfd(t testing.TB, pid int) int {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return fd
}

// reuse starts a process that has the pid of one that is gone.
func reuse(t testing.TB, pid int) *os.Process {
	t.Helper()
	for range 100 { // somebody else may take the pid first
		if err := os.WriteFile("/proc/sys/kernel/ns_last_pid", []byte(strconv.Itoa(pid-1)), 0); err != nil {
			t.Skipf("the kernel does not let us choose a pid: %v", err)
		}
		p, err := os.StartProcess("/bin/sleep", []string{"sleep", "3600"}, &os.ProcAttr{})
		if err != nil {
			t.Fatal(err)
		}
		if p.Pid == pid {
			t.Cleanup(func() {
				_ = p.Kill()
				_, _ = p.Wait()
			})
			return p
		}
		_ = p.Kill()
		_, _ = p.Wait()
	}
	t.Skip("the pid could not be had again")
	return nil
}

func TestFault_A4_WhateverIsPrintedBecomesLines(t *testing.T) {
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		for _, c := range []struct {
			op   string
			args map[string]any
			want string
		}{
			{"print", map[string]any{"text": "from Python"}, "stdout: from Python"},
			{"print", map[string]any{"text": "to stderr", "stream": "stderr"}, "stderr: to stderr"},
			{"print", map[string]any{"text": "Grüße"}, "stdout: Grüße"},
			{"printf", map[string]any{"text": "from C"}, "stdout: from C"},
			{"long", map[string]any{"bytes": 10 << 20, "stream": "stderr"}, "stderr: xxxxxxxx"},
			{"long", map[string]any{"bytes": 10 << 20, "stream": "stdout"}, "stdout: xxxxxxxx"},
		} {
			printed := newLines()
			w := startWorker(t, s, process.WorkerOptions{OnLine: printed.on})
			w.hello(t)
			w.do(t, c.op, c.args)
			line := printed.wait(t, c.want)
			if c.op == "long" {
				const longest = 65536 + 100
				if len(line) > longest || !strings.HasSuffix(line, "… [cut: the line has 10485760 bytes]") {
					t.Errorf("a line of %d bytes ends %q", len(line), line[len(line)-50:])
				}
			} else if line != c.want {
				t.Errorf("line is %q, want %q", line, c.want)
			}
			w.do(t, "random", nil) // its socket is unharmed
			w.Kill()
			<-w.Done()
			for _, line := range w.Tail() {
				if len(line) > 4096+100 {
					t.Errorf("the tail holds a line of %d bytes", len(line))
				}
			}
		}
	})
}

func TestFault_F14_NoVariableOfTheHostReachesPythonUnlessAllowed(t *testing.T) {
	const canary = "canary-5d1f0c"
	for _, name := range []string{"OPENAI_API_KEY", "AWS_SECRET_ACCESS_KEY", "HTTPS_PROXY", "PYTHONSTARTUP", "LD_PRELOAD_KEY", "LC", "MY_LC_KEY"} {
		t.Setenv(name, canary)
	}
	t.Setenv("LC_TIME", "C")
	t.Setenv("OMP_NUM_THREADS", "8")
	modes(t, func(t *testing.T, o process.ServerOptions) {
		s := startServer(t, o)
		w := startWorker(t, s, process.WorkerOptions{Env: []string{"EXTRA=1"}})
		w.hello(t)
		env, ok := w.do(t, "env", nil).(map[string]any)
		if !ok {
			t.Fatal("no environment")
		}
		for name, value := range env {
			if value == canary {
				t.Errorf("%s reached the worker", name)
			}
		}
		for name, want := range map[string]string{"EXTRA": "1", "LC_TIME": "C", "OMP_NUM_THREADS": "1", "PYTHONNOUSERSITE": "1"} {
			if env[name] != want {
				t.Errorf("%s is %v, want %s", name, env[name], want)
			}
		}
		pids := []int{w.PID()}
		if f := s.ForkServer(); f != nil {
			pids = append(pids, f.PID())
		}
		for _, pid := range pids {
			text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/environ")
			if err != nil || strings.Contains(string(text), canary) {
				t.Errorf("the environment of %d: %v, %q", pid, err, text)
			}
		}
	})
}
