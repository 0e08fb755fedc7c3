package bench

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/pyenv"
)

//go:embed bare.py
var bareSource []byte

// bare is a Python process that runs predictions in a plain DSPy loop.
type bare struct {
	stdin  io.WriteCloser
	stdout *bufio.Scanner
}

func startBare(b *testing.B) *bare {
	b.Helper()
	env, err := pyenv.Ensure(b.Context(), pyenv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	script := filepath.Join(b.TempDir(), "bare.py")
	if err := os.WriteFile(script, bareSource, 0o600); err != nil {
		b.Fatal(err)
	}
	// It ends with its standard input, after the benchmark.
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), env.Python, script)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = stdin.Close()
		if err := cmd.Wait(); err != nil {
			b.Errorf("bare.py: %v", err)
		}
	})
	p := &bare{stdin: stdin, stdout: bufio.NewScanner(stdout)}
	p.run(b, 200) // Whatever DSPy imports and caches lazily is there now.
	return p
}

// run makes n predictions and returns how long they took.
func (p *bare) run(b *testing.B, n int) time.Duration {
	b.Helper()
	if err := json.NewEncoder(p.stdin).Encode(map[string]int{"n": n}); err != nil {
		b.Fatal(err)
	}
	if !p.stdout.Scan() {
		b.Fatalf("bare.py has ended: %v", p.stdout.Err())
	}
	var taken struct {
		Seconds float64 `json:"seconds"`
	}
	if err := json.Unmarshal(p.stdout.Bytes(), &taken); err != nil {
		b.Fatal(err)
	}
	return time.Duration(taken.Seconds * float64(time.Second))
}
