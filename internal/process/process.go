package process

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/dspex/dspex/internal/status"
)

// Process is one running or ended child process. All methods may be called concurrently,
// and in every state.
type Process struct {
	id     string
	path   string
	pid    int
	conn   net.Conn
	stacks *os.File   // read end of the pipe that faulthandler writes; nil if there is none
	dump   sync.Mutex // one reader of stacks at a time

	handle   handle
	lifeline *lifeline
	output   *capture
	killed   atomic.Bool
	done     chan struct{}
	exit     Exit // valid once done is closed
}

// handle keeps the identity of one child process, so that its pid cannot be reused.
type handle interface {
	// wait blocks until the process has ended.
	wait()
	// reap kills what is left of the process's group, if it led one, and takes its status.
	reap() Exit
	// signal sends a signal; it does nothing once the process was reaped.
	signal(sig syscall.Signal)
	// close lets the identity go.
	close()
}

// ID returns the id that the process was started with, for a worker the worker's id.
func (p *Process) ID() string { return p.id }

// PID returns the process id, for information: signals go through [Process.Kill].
func (p *Process) PID() int { return p.pid }

// Path returns the path of the program that runs in the process.
func (p *Process) Path() string { return p.path }

// Conn returns this side of the process's private socket, nil if it has none. Whoever uses
// it closes it: it stays open when the process ends, since there may be something to read.
func (p *Process) Conn() net.Conn { return p.conn }

// Done returns a channel that is closed once the process has ended, was reaped, and all
// that it printed was read.
func (p *Process) Done() <-chan struct{} { return p.done }

// Exit tells how the process ended; the zero Exit until Done is closed.
func (p *Process) Exit() Exit {
	select {
	case <-p.done:
		return p.exit
	default:
		return Exit{}
	}
}

// Tail returns the last lines that the process wrote to its standard output and error, in
// the order in which they were read.
func (p *Process) Tail() []string { return p.output.tail.of("") }

// Kill ends the process and its group at once, whatever state they are in: it closes the
// lifeline and, should that not be armed, kills the process through its handle. It does not
// wait; see [Process.Done]. Further calls do nothing.
func (p *Process) Kill() {
	select {
	case <-p.done:
		return
	default:
	}
	p.killed.Store(true)
	p.lifeline.cut()
	p.handle.signal(syscall.SIGKILL)
}

// Wait returns when the process has ended. Errors: canceled or deadline_exceeded when ctx
// ends first; the process then runs on.
func (p *Process) Wait(ctx context.Context) (Exit, error) {
	select {
	case <-p.done:
		return p.exit, nil
	default:
	}
	select {
	case <-p.done:
		return p.exit, nil
	case <-ctx.Done():
		return Exit{}, status.FromContext(ctx, "wait", "the process is still running")
	}
}

// Failure returns the error for a process that ended although it was needed: it tells the
// path, how it ended and what it last wrote to its standard error (or output). what names the process's part, for example
// "fork server". The process must have ended.
func (p *Process) Failure(op, what string) *status.Error {
	err := status.New(status.Unavailable, op, "the %s (%s) %s", what, p.path, p.Exit())
	err.Worker = p.id
	err.Retryable = true
	lines := p.output.tail.of("stderr")
	if len(lines) == 0 {
		lines = p.Tail()
	}
	if last := lastLine(lines); last != "" {
		err.Message += "; its last line: " + last
	} else {
		err.Message += " and printed nothing"
	}
	if len(lines) > 0 {
		err.Python = pythonError(lines)
	}
	return err
}

func lastLine(lines []string) string {
	for _, line := range slices.Backward(lines) {
		if line := strings.TrimSpace(line); line != "" {
			return line
		}
	}
	return ""
}

// pythonError reads the exception out of a process's last lines: what follows the last
// traceback, or just the lines.
func pythonError(tail []string) *status.PythonError {
	e := &status.PythonError{Type: "process", Message: lastLine(tail), Stderr: tail}
	for i, begin := range slices.Backward(tail) {
		if begin != "Traceback (most recent call last):" {
			continue
		}
		e.Traceback = strings.Join(tail[i:], "\n")
		for _, line := range tail[i+1:] {
			if line == "" || line[0] == ' ' {
				continue
			}
			if name, message, found := strings.Cut(line, ":"); found && !strings.Contains(name, " ") {
				e.Type, e.Message = name, strings.TrimSpace(message)
			} else if !strings.Contains(line, " ") {
				e.Type, e.Message = line, ""
			}
			break
		}
		break
	}
	return e
}

// supervise waits for the end of the process and tidies up behind it. It runs in a
// goroutine of its own for as long as the process does. ended, if not nil, is called when
// the process's group is gone.
func (p *Process) supervise(ended func()) {
	p.handle.wait()
	p.exit = p.handle.reap()
	p.exit.Killed = p.killed.Load() && p.exit.Signal == syscall.SIGKILL
	p.lifeline.cut()
	p.lifeline.release()
	p.output.finish()
	p.handle.close()
	if p.stacks != nil {
		_ = p.stacks.Close()
	}
	if ended != nil {
		ended()
	}
	close(p.done)
}
