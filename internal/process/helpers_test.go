//go:build unix

package process_test

import (
	"bufio"
	"context"
	"encoding/json"
	"maps"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/process"
)

// patience bounds what must happen at all; it only ends tests that would hang.
const patience = 60 * time.Second

// interpreter is the real path of python3, past shims that are shell scripts.
var interpreter = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("python3", "-c", "import sys; print(sys.executable)").Output()
	return strings.TrimSpace(string(out)), err
})

// python returns the interpreter with the worker package and the test workers.
func python(t testing.TB, env ...string) process.Python {
	t.Helper()
	path, err := interpreter()
	if err != nil {
		t.Skipf("no python3: %v", err)
	}
	source, err := filepath.Abs("../../python")
	if err != nil {
		t.Fatal(err)
	}
	workers, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	return process.Python{Path: path, Source: source, Env: append([]string{"PYTHONPATH=" + workers}, env...)}
}

func absolute(t testing.TB, path string) string {
	t.Helper()
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	return abs
}

func options(t testing.TB) process.ServerOptions {
	t.Helper()
	return process.ServerOptions{Python: python(t), Main: "workers:main", Warm: "workers:preload"}
}

func startServer(t testing.TB, o process.ServerOptions) *process.Server {
	t.Helper()
	s, err := process.StartServer(t.Context(), o)
	if err != nil {
		t.Fatalf("StartServer: %v", err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Errorf("Stop: %v", err)
		}
	})
	return s
}

// peer speaks with a test worker.
type peer struct {
	*process.Process
	in *bufio.Reader
}

func startWorker(t testing.TB, s *process.Server, o process.WorkerOptions) *peer {
	t.Helper()
	if o.ID == "" {
		o.ID = "w1"
	}
	p, err := s.Worker(t.Context(), o)
	if err != nil {
		t.Fatalf("Worker: %v", err)
	}
	w := &peer{p, bufio.NewReader(p.Conn())}
	t.Cleanup(func() {
		p.Kill()
		<-p.Done()
		_ = p.Conn().Close()
	})
	return w
}

// hello reads the worker's first message.
func (w *peer) hello(t testing.TB) map[string]any {
	t.Helper()
	var m map[string]any
	if err := w.receive(&m); err != nil {
		t.Fatalf("no hello: %v; tail %q", err, w.Tail())
	}
	return m
}

func (w *peer) receive(v any) error {
	_ = w.Conn().SetReadDeadline(time.Now().Add(patience))
	line, err := w.in.ReadBytes('\n')
	if err != nil {
		return err
	}
	return json.Unmarshal(line, v)
}

func (w *peer) send(op string, args map[string]any) error {
	m := map[string]any{"op": op}
	maps.Copy(m, args)
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = w.Conn().Write(append(text, '\n'))
	return err
}

// do performs one command and returns its result.
func (w *peer) do(t testing.TB, op string, args map[string]any) any {
	t.Helper()
	if err := w.send(op, args); err != nil {
		t.Fatalf("%s: %v; tail %q", op, err, w.Tail())
	}
	var m map[string]any
	if err := w.receive(&m); err != nil {
		t.Fatalf("%s: %v; tail %q", op, err, w.Tail())
	}
	return m["result"]
}

// ended waits for the process's end.
func ended(t testing.TB, p *process.Process) process.Exit {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	exit, err := p.Wait(ctx)
	if err != nil {
		t.Fatalf("Wait: %v", err)
	}
	return exit
}

// lines collects what a process prints.
type lines struct {
	mu  sync.Mutex
	all []string
	new chan struct{}
}

func newLines() *lines { return &lines{new: make(chan struct{}, 1)} }

func (l *lines) on(stream string, line []byte) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.all = append(l.all, stream+": "+string(line))
	select {
	case l.new <- struct{}{}:
	default:
	}
}

// wait returns the first line that has prefix.
func (l *lines) wait(t testing.TB, prefix string) string {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		l.mu.Lock()
		for _, line := range l.all {
			if strings.HasPrefix(line, prefix) {
				l.mu.Unlock()
				return line
			}
		}
		l.mu.Unlock()
		select {
		case <-l.new:
		case <-timeout.C:
			t.Fatalf("no line begins with %q", prefix)
		}
	}
}

func verifyNone(t *testing.T) {
	t.Helper()
	goleak.VerifyNone(t)
}
