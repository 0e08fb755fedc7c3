// Command dspex runs DSPy programs and looks after what they need.
//
// Results go to standard output, progress and logs to standard error. The exit code is
// 0 for success, 1 when something could not be done, 2 when the command was wrong, and
// 130 or 143 after an interrupt or a termination signal.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

func main() {
	os.Exit(execute(context.Background(), os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}, os.Environ()))
}

// streams are the three standard ones.
type streams struct {
	in  io.Reader
	out io.Writer
	err io.Writer
}

// execute runs one command line and returns its exit code. Nothing that it started is
// left running.
func execute(ctx context.Context, args []string, std streams, environ []string) int {
	ctx, stop := interruptible(ctx)
	defer stop()
	out := &sink{w: std.out}
	if !isTerminal(std.out) {
		std.out = out
	}
	a := &app{std: std, environ: environ}
	root := a.root()
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(std.out)
	root.SetErr(std.err)
	err := root.ExecuteContext(ctx)
	if err == nil && out.err != nil {
		err = fmt.Errorf("the result could not be written: %w", out.err)
	}
	if err == nil {
		return exitOK
	}
	return a.fail(ctx, err, a.json || asksForJSON(args))
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ signal syscall.Signal }

func (i interrupted) Error() string { return i.signal.String() }

// interruptible returns a context that ends with the first SIGINT or SIGTERM. The second
// one ends the process at once, as if nobody had asked for them; the workers then end by
// their lifelines.
func interruptible(parent context.Context) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case s := <-signals:
			signal.Stop(signals)
			number, _ := s.(syscall.Signal)
			cancel(interrupted{number})
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		cancel(nil)
		<-done
	}
}

// asksForJSON reports whether the arguments contain --json, for failures of reading them.
func asksForJSON(args []string) bool {
	for _, arg := range args {
		switch {
		case arg == "--":
			return false
		case arg == "--json", strings.EqualFold(arg, "--json=true"):
			return true
		}
	}
	return false
}
