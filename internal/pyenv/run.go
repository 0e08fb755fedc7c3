package pyenv

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"time"
)

// tailLines is how much of what a failed program said is kept: enough for pip's longest
// explanation.
const tailLines = 30

// outputGrace bounds the wait for output after a program has ended, should something that it
// started hold its pipes open.
const outputGrace = 2 * time.Second

// command is a program to run to its end.
type command struct {
	Path string
	Args []string
	Env  []string
	Dir  string
	// Line is given each line that the program writes, of either stream; it may be nil.
	Line func(line string)
}

// output is what a program wrote.
type output struct {
	Stdout []byte
	Tail   []string // the last lines, of both streams
}

// runError is the failure of a program, with what it said last.
type runError struct {
	Path string
	Err  error
	Tail []string
}

// Error returns the failure and the last lines, one per line.
func (e *runError) Error() string {
	return strings.Join(append([]string{fmt.Sprintf("%s: %v", e.Path, e.Err)}, e.Tail...), "\n  ")
}

func (e *runError) Unwrap() error { return e.Err }

// lastLine returns the last line that says something, or "".
func (e *runError) lastLine() string {
	for _, line := range slices.Backward(e.Tail) {
		if line = strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// run runs a program in a process group of its own and waits for it. When ctx ends the whole
// group is killed. A program whose host dies is killed too, where the kernel can do that.
func run(ctx context.Context, c command) (output, error) {
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Env, cmd.Dir = c.Env, c.Dir
	cmd.WaitDelay = outputGrace
	var stdout bytes.Buffer
	lines := &lineWriter{each: c.Line}
	cmd.Stdout = io.MultiWriter(&stdout, lines.stream())
	cmd.Stderr = lines.stream()
	err := runGroup(ctx, cmd)
	tail := lines.close()
	if ctx.Err() != nil {
		return output{}, ctx.Err()
	}
	if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return output{}, &runError{Path: c.Path, Err: err, Tail: tail}
	}
	return output{Stdout: stdout.Bytes(), Tail: tail}, nil
}
