//go:build unix

package process_test

import (
	"testing"

	"github.com/dspex/dspex/internal/process"
)

func TestAWorkerIsForkedAndAnswers(t *testing.T) {
	s := startServer(t, options(t))
	if mode := s.Mode(); mode.Kind != process.Fork {
		t.Fatalf("mode is %v", mode)
	}
	if l := s.Lifeline(); !l.Kernel {
		t.Fatalf("lifeline: %v", l)
	}
	w := startWorker(t, s, process.WorkerOptions{ID: "w1", Options: map[string]any{"a": 1.0}})
	hello := w.hello(t)
	if hello["hello"] != "w1" || int(hello["pid"].(float64)) != w.PID() {
		t.Errorf("hello is %v, pid %d", hello, w.PID())
	}
	if err := w.send("exit", map[string]any{"code": 3}); err != nil {
		t.Fatal(err)
	}
	if exit := ended(t, w.Process); exit != (process.Exit{Code: 3}) {
		t.Errorf("exit is %v", exit)
	}
}
