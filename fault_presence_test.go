package dspex_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
)

// Open returns a Runtime that can be used at once: Python has answered.
func TestFault_D1_OpenReturnsAReadyRuntime(t *testing.T) {
	t.Parallel()
	program := dspex.Predict[question, answer]("")
	for i := range rounds(100, 3) {
		rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Min: 2, Max: 2}})
		stats := rt.Stats()
		if len(stats.Workers) != 2 {
			t.Fatalf("%d workers are ready after Open, want 2", len(stats.Workers))
		}
		for _, w := range stats.Workers {
			if w.PID == 0 || w.State != "ready" {
				t.Errorf("worker %s has pid %d and is %s", w.ID, w.PID, w.State)
			}
		}
		if err := ask(t.Context(), rt, program, fmt.Sprintf("round %d", i)); err != nil {
			t.Fatal(err)
		}
		if err := rt.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
}

// An environment that lacks something is a clear error that names the remedy, and
// nothing is left running.
func TestFault_D3_BrokenEnvironmentNamesTheRemedy(t *testing.T) {
	t.Parallel()
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Fatal(err)
	}
	empty := filepath.Join(t.TempDir(), "venv")
	if out, err := exec.CommandContext(t.Context(), python, "-m", "venv", "--without-pip", empty).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	tests := []struct {
		name, says string
		python     dspex.PythonSettings
	}{
		{"no such interpreter", "/no/such/python", dspex.PythonSettings{Path: "/no/such/python"}},
		{"nothing installed", "dspy", dspex.PythonSettings{Path: filepath.Join(empty, "bin", "python")}},
		{"no such interpreter to build with", "/no/such/python", dspex.PythonSettings{Interpreter: "/no/such/python"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			rt, err := dspex.Open(t.Context(), dspex.Config{LM: echoing(), Settings: dspex.Settings{Python: tt.python}})
			if rt != nil {
				t.Error("a Runtime was returned")
			}
			var e *dspex.Error
			if !errors.As(err, &e) || e.Code != dspex.CodeUnavailable {
				t.Fatalf("got %v, want unavailable", err)
			}
			if !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not say %q", err, tt.says)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %q", err)
			}
		})
	}
}

// The environment is probed once per Runtime, not once per worker: an interpreter of the
// user's own that counts its executions sees one probe and one fork server.
func TestFault_D3_EnvironmentIsProbedOnce(t *testing.T) {
	t.Parallel()
	env, err := pyenv.Ensure(t.Context(), pyenv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	counter, wrapper := filepath.Join(dir, "count"), filepath.Join(dir, "python")
	script := fmt.Sprintf("#!/bin/sh\necho run >> '%s'\nexec '%s' \"$@\"\n", counter, env.Python)
	if err := os.WriteFile(wrapper, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{
		Min: 3, Max: 3, Python: dspex.PythonSettings{Path: wrapper},
	}})
	if err := rt.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(counter)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(data), "run"); n > 3 { // The probe, the compilation of the sources, the fork server.
		t.Errorf("the interpreter was executed %d times for 6 workers", n)
	}
	if n := rt.Stats().Started; n != 6 {
		t.Errorf("%d workers were started, want 6", n)
	}
}

// Nothing runs that was not asked for: a program without a Runtime starts nothing, a lazy
// Runtime nothing before its first call.
func TestFault_D5_NothingRunsUnasked(t *testing.T) {
	before := children(t)
	program := dspex.Predict[question, answer]("")
	if err := program.Err(); err != nil {
		t.Fatal(err)
	}
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true}})
	if now := children(t); len(now) != len(before) {
		t.Errorf("processes were started: %v, before there were %v", now, before)
	}
	if stats := rt.Stats(); stats.Started != 0 || len(stats.Workers) != 0 {
		t.Errorf("a lazy Runtime has started workers: %+v", stats)
	}
	if err := ask(t.Context(), rt, program, "now?"); err != nil {
		t.Fatal(err)
	}
	if started := rt.Stats().Started; started != 1 {
		t.Errorf("%d workers were started for one call, want 1", started)
	}
}
