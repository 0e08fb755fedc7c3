package dspex_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// A worker may print what it likes: it becomes log lines that name the worker, and no
// call notices.
func TestFault_A4_PrintingCorruptsNoFrame(t *testing.T) {
	t.Parallel()
	for _, fromC := range []bool{false, true} {
		t.Run(fmt.Sprintf("from_c=%t", fromC), func(t *testing.T) {
			t.Parallel()
			var log logs
			rt := openDebug(t, dspex.Config{
				LM: echoing(), Logger: log.logger(), Settings: dspex.Settings{Max: 1},
			})
			// The text begins as a frame does, as far as C can print it.
			text := "\u00d5\x01\x02\x01\x10 not a frame"
			n := rounds(100_000, 500)
			program := dspex.Predict[question, answer]("")
			var calls sync.WaitGroup
			for i := range rounds(1_000, 20) {
				calls.Go(func() {
					if err := ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)); err != nil {
						t.Errorf("call %d: %v", i, err)
					}
				})
			}
			for _, stream := range []string{"stdout", "stderr"} {
				calls.Go(func() {
					op := map[string]any{"op": "print", stream: n, "text": text + stream + "\n", "c": fromC}
					if _, err := dspex.Misbehave(t.Context(), rt, op); err != nil {
						t.Errorf("printing to %s: %v", stream, err)
					}
				})
			}
			calls.Wait()
			workers := rt.Stats().Workers
			if len(workers) != 1 {
				t.Fatalf("%d workers, want 1", len(workers))
			}
			for _, stream := range []string{"stdout", "stderr"} {
				log.wait(t, "not a frame"+stream)
			}
			for line := range strings.Lines(log.String()) {
				if strings.Contains(line, "not a frame") && !strings.Contains(line, workers[0].ID) {
					t.Fatalf("a printed line does not name its worker: %s", line)
				}
			}
			if lost := rt.Stats().Lost; lost != 0 {
				t.Errorf("%d workers were lost", lost)
			}
		})
	}
}

// A worker whose stream is broken is replaced; the call that broke it fails with a typed
// error, predictions that were on it are made elsewhere, and other workers go on.
func TestFault_A5_BrokenStreamCostsOneWorker(t *testing.T) {
	t.Parallel()
	frame := func(magic, version, kind byte, length uint32, stream uint64, payload string) string {
		head := []byte{magic, version, kind, 0}
		head = append(head, byte(length>>24), byte(length>>16), byte(length>>8), byte(length))
		for shift := 56; shift >= 0; shift -= 8 {
			head = append(head, byte(stream>>shift))
		}
		return hex.EncodeToString(append(head, payload...))
	}
	tests := []struct{ name, garbage string }{
		{"no frame at all", hex.EncodeToString([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"))},
		{"wrong version", frame(0xD5, 99, 3, 0, 1, "")},
		{"unknown type", frame(0xD5, 1, 77, 0, 1, "")},
		{"result of a stream never opened", frame(0xD5, 1, 3, 2, 1<<40+1, "{}")},
		{"call without a method", frame(0xD5, 1, 2, 1, 1<<40, "\x20")},
		{"second handshake", frame(0xD5, 1, 1, 2, 0, "{}")},
	}
	// The questions that wait for their answer, and what lets them go.
	waiting, release := make(chan struct{}, 2), make(chan struct{})
	model := scripted.Func(func(ctx context.Context, req *lm.Request) (string, error) {
		waiting <- struct{}{}
		select {
		case <-release:
			return completion(asked(req)), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
	rt := openDebug(t, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 2, Slots: 2}})
	program := dspex.Predict[question, answer]("")
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			results := make(chan error, 2)
			for i := range 2 { // Least loaded first: one call on each worker.
				go func() { results <- ask(t.Context(), rt, program, fmt.Sprintf("question %d", i)) }()
				<-waiting
			}
			_, err := dspex.Misbehave(t.Context(), rt, map[string]any{"op": "garbage", "hex": tt.garbage})
			var e *dspex.Error
			if !errors.As(err, &e) || e.Code != dspex.CodeWorkerLost || e.Worker == "" || e.Message == "" {
				t.Errorf("the call that broke the stream: %v, want worker_lost with worker and reason", err)
			}
			// The prediction that was on the broken worker is made on another one.
			for range 2 {
				release <- struct{}{}
			}
			for range 2 {
				if err := <-results; err != nil {
					t.Errorf("a call in flight: %v", err)
				}
			}
			if err := rt.Ready(t.Context()); err != nil {
				t.Fatalf("ready: %v", err)
			}
			if n := len(rt.Stats().Workers); n != 2 {
				t.Errorf("%d workers afterwards, want 2", n)
			}
		})
	}
}

// A frame that is too long is refused where it is made or skipped where it arrives; the
// connection survives both.
func TestFault_A5_OversizedFrameCostsOneCall(t *testing.T) {
	t.Parallel()
	model := scripted.Func(func(_ context.Context, req *lm.Request) (string, error) {
		if asked(req) == "long" {
			return completion(strings.Repeat("x", 70<<20)), nil
		}
		return completion(asked(req)), nil
	})
	rt := open(t, dspex.Config{LM: model, Settings: dspex.Settings{Max: 1}})
	program := dspex.Predict[question, answer]("")
	tests := []struct {
		name, question string
		code           dspex.Code
	}{
		{"inputs", strings.Repeat("x", 70<<20), dspex.CodeInvalidArgument},
		{"completion", "long", dspex.CodeLM},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := program.Run(t.Context(), rt, question{tt.question})
			if code := dspex.CodeOf(err); code != tt.code {
				t.Errorf("got %.300v, want %v", err, tt.code)
			}
			if err := ask(t.Context(), rt, program, "still there?"); err != nil {
				t.Error(err)
			}
		})
	}
	if lost := rt.Stats().Lost; lost != 0 {
		t.Errorf("%d workers were lost", lost)
	}
}

// A worker that fails to start is reported at once, with its exit and its last words.
func TestFault_A6_FailedStartExplainsItself(t *testing.T) {
	t.Parallel()
	for _, spawn := range []bool{false, true} {
		t.Run(fmt.Sprintf("spawn=%t", spawn), func(t *testing.T) {
			t.Parallel()
			_, err := dspex.Open(t.Context(), dspex.Config{Settings: dspex.Settings{
				StartTimeout: within(1 << 40), // Far longer than the test may take.
				Python:       dspex.PythonSettings{Spawn: spawn, Preload: []string{"dspex_no_such_module"}},
			}})
			var e *dspex.Error
			if !errors.As(err, &e) || e.Code != dspex.CodeUnavailable {
				t.Fatalf("open: %v, want unavailable", err)
			}
			var raised *dspex.PythonError
			if !errors.As(err, &raised) {
				t.Fatalf("open: %v has no Python error", err)
			}
			said := err.Error() + "\n" + raised.Error() + strings.Join(raised.Stderr, "\n")
			for _, want := range []string{"exit", "dspex_no_such_module"} {
				if !strings.Contains(said, want) {
					t.Errorf("%q is not in %q", want, said)
				}
			}
		})
	}
}

// What is wrong with a caller's input is found before a worker is involved: the Runtime
// is lazy, so a leased worker would have been started.
func TestFault_A7_InvalidInputLeasesNoWorker(t *testing.T) {
	t.Parallel()
	rt := open(t, dspex.Config{LM: echoing(), Settings: dspex.Settings{Lazy: true}})
	signature, err := dspex.ParseSignature("question, n: int -> answer")
	if err != nil {
		t.Fatal(err)
	}
	dynamic := dspex.Predict[dspex.Values, dspex.Values]("", dspex.WithSignature(signature))
	typed := dspex.Predict[question, answer]("")
	run := func(in dspex.Values, opts ...dspex.CallOption) func() error {
		return func() error { _, err := dynamic.Run(t.Context(), rt, in, opts...); return err }
	}
	tests := []struct {
		name, says string
		run        func() error
	}{
		{"missing", "question", run(dspex.Values{"n": 1})},
		{"extra", "qestion", run(dspex.Values{"question": "a", "n": 1, "qestion": "b"})},
		{"wrong type", "n", run(dspex.Values{"question": "a", "n": "one"})},
		{"not JSON", "question", run(dspex.Values{"question": make(chan int), "n": 1})},
		{"invalid text", "question", func() error { _, err := typed.Run(t.Context(), rt, question{"\xff"}); return err }},
		{"unknown route", "cheap", run(dspex.Values{"question": "a", "n": 1}, dspex.WithLM("cheap"))},
		{"unknown adapter", "jsonn", run(dspex.Values{"question": "a", "n": 1}, dspex.WithAdapter("jsonn"))},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			err := tt.run()
			if code := dspex.CodeOf(err); code != dspex.CodeInvalidArgument {
				t.Errorf("got %v, want invalid_argument", err)
			}
			if err != nil && !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%q does not name %q", err, tt.says)
			}
		})
	}
	if started := rt.Stats().Started; started != 0 {
		t.Errorf("%d workers were started", started)
	}
	if pids := rt.Stats().Workers; len(pids) != 0 {
		t.Errorf("workers exist: %v", pids)
	}
}
