//go:build unix

package main

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"
)

func TestASignalStopsTheCallAndLeavesNothingRunning(t *testing.T) {
	for _, tc := range []struct {
		signal syscall.Signal
		code   int
	}{{syscall.SIGINT, 130}, {syscall.SIGTERM, 143}} {
		t.Run(tc.signal.String(), func(t *testing.T) {
			t.Parallel()
			server := silent(t)
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.CommandContext(t.Context(), self, "run", "--json", "--lm", "openai/m", "--base-url", server.url, "a -> b", "a=1")
			cmd.Env = append(plainEnviron(), commandVariable+"=1")
			// A process that inherits this pipe and lives on keeps Wait from returning.
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case <-server.asked:
			case err := <-ended:
				t.Fatalf("the command ended before it asked the model: %v\n%s", err, &stderr)
			}
			sent := time.Now()
			if err := cmd.Process.Signal(tc.signal); err != nil {
				t.Fatal(err)
			}
			err = <-ended
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tc.code {
				t.Errorf("the command ended with %v, want exit code %d\n%s", err, tc.code, &stderr)
			}
			if code, _ := failure(t, result{stdout: stdout.String()}); code != "canceled" {
				t.Errorf("the error's code is %s, want canceled", code)
			}
			if took := time.Since(sent); took > 20*time.Second {
				t.Errorf("it took %s to stop", took)
			}
		})
	}
}
