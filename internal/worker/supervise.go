package worker

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

const (
	// exitGrace is how long a process whose connection has ended may take to exit before it
	// is killed, so that its own exit status is known. One that was killed needs less than a
	// millisecond, or 14 ms with 500 MB of memory (measured).
	exitGrace = 100 * time.Millisecond
	// lastFrames is how long the frames that an ended process has left in the socket are
	// read. Only a descendant that holds the socket keeps it from ending by itself.
	lastFrames = 200 * time.Millisecond
)

// supervise waits until the connection or the process ends, brings the other to its end and
// makes the outcome known. It runs for as long as the worker lives.
func (w *Worker) supervise(context.Context) {
	select {
	case <-w.conn.Done():
		w.awaitExit()
	case <-w.proc.Done():
		within(w.conn.Done(), lastFrames)
	}
	reason := w.conn.Err() // before Close adds its own
	_ = w.conn.Close()     // it always returns nil
	w.conclude(reason)
}

// awaitExit returns when the process whose connection has ended is gone.
func (w *Worker) awaitExit() {
	w.mu.Lock()
	grace := w.o.StopGrace
	if w.state == Ready || w.state == Busy {
		grace = exitGrace
	}
	w.mu.Unlock()
	if !within(w.proc.Done(), grace) {
		w.proc.Kill()
		<-w.proc.Done()
	}
}

// within waits for ch, at most for d, and reports whether it was closed.
func within(ch <-chan struct{}, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ch:
		return true
	case <-timer.C:
		return false
	}
}

// conclude enters the final state: the process is gone and the connection closed. reason is
// why the connection had ended, nil if it had not.
func (w *Worker) conclude(reason error) {
	exit := w.proc.Exit()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ended = howItEnded(exit, reason, w.proc.Tail())
	// A drained connection also means that the last call has ended, of which its caller may
	// not have taken notice yet.
	drained := w.state == Draining && status.CodeOf(reason) == status.Closed
	if w.cause == nil && (w.forced || drained || w.state == Stopping) {
		w.enter(Stopping)
		w.enter(Stopped)
		if !w.forced && !exit.Killed && (exit.Code != 0 || exit.Signal != 0) {
			e := status.New(status.WorkerLost, "stop", "worker %s %s when it was asked to stop", w.o.ID, w.ended)
			e.Worker = w.o.ID
			e.Python = w.lastWords(exit.String(), "")
			w.exitErr = e
		}
	} else {
		w.enter(Lost)
		w.err = w.loss(exit, reason)
	}
	close(w.done)
}

// loss makes the error of a lost worker. The caller holds mu.
func (w *Worker) loss(exit process.Exit, reason error) error {
	e := &status.Error{Code: status.WorkerLost, Op: "run", Worker: w.o.ID}
	if w.cause != nil {
		e.Message = fmt.Sprintf("worker %s (pid %d) %s", w.o.ID, w.proc.PID(), w.cause.Message)
		e.Python = w.cause.Python
		return e
	}
	e.Message = fmt.Sprintf("worker %s (pid %d) %s", w.o.ID, w.proc.PID(), w.ended)
	e.Python = w.lastWords(exit.String(), "")
	if fault, ok := errors.AsType[*wire.ProtocolError](reason); ok {
		e.Err = fault
	}
	return e
}

// howItEnded tells, for a person, how a process ended.
func howItEnded(exit process.Exit, reason error, tail []string) string {
	text := exit.String()
	if fault, ok := errors.AsType[*wire.ProtocolError](reason); ok {
		text = fmt.Sprintf("broke the protocol (%v) and %s", fault, exit)
	}
	last := ""
	for _, t := range slices.Backward(tail) {
		line := strings.TrimSpace(t)
		if strings.HasPrefix(line, fatal) {
			return text + "; it said: " + line
		}
		if last == "" {
			last = line
		}
	}
	if last == "" {
		return text
	}
	return text + "; its last line: " + last
}

// fatal begins the first line that Python's faulthandler writes about a crash; what follows
// it is the stacks, and the list of extension modules.
const fatal = "Fatal Python error: "

// lastWords returns what the process printed last, and stacks, as a Python error; nil if
// there is neither.
func (w *Worker) lastWords(message, stacks string) *status.PythonError {
	tail := w.proc.Tail()
	if len(tail) == 0 && stacks == "" {
		return nil
	}
	return &status.PythonError{Type: "process", Message: message, Traceback: stacks, Stderr: tail}
}

// kill ends the worker because of a cause. Only the first cause counts. It does not wait.
func (w *Worker) kill(cause *status.Error) {
	w.mu.Lock()
	if w.final() {
		w.mu.Unlock()
		return
	}
	if w.cause == nil && !w.forced {
		w.cause = cause
	}
	w.mu.Unlock()
	w.proc.Kill()
}

// Stop lets the calls that the worker has finish, then has it exit. When ctx ends, what is
// left is killed; calls in flight then fail with code closed. A worker that does not exit
// within StopGrace after its last call is killed too. It returns when nothing is left of the
// worker. It may be called more than once, and while another call waits.
//
// Errors: worker_lost when the process ended on its own with another status than 0.
func (w *Worker) Stop(ctx context.Context) error {
	w.drain()
	select {
	case <-w.done:
	case <-ctx.Done():
		w.mu.Lock()
		w.forced = true
		w.mu.Unlock()
		w.proc.Kill()
		<-w.done
	}
	w.settleDown()
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.exitErr
}

// drain begins the stop, once.
func (w *Worker) drain() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.enter(Draining) {
		return
	}
	if err := w.conn.Drain(); err != nil {
		return // the connection is lost: supervise is at it
	}
	w.quietLocked()
	w.group.Go(func(ctx context.Context) {
		select {
		case <-w.drained:
		case <-w.done:
			return
		}
		timer := time.NewTimer(w.o.StopGrace)
		defer timer.Stop()
		select {
		case <-w.done:
		case <-ctx.Done():
		case <-timer.C:
			w.o.Logger.Warn("worker: it did not exit when it was asked to, and is killed")
			w.proc.Kill()
		}
	})
}

// quietLocked enters Stopping when a draining worker has no calls left. The caller holds mu.
func (w *Worker) quietLocked() {
	if w.state == Draining && len(w.calls) == 0 {
		w.enter(Stopping)
		close(w.drained)
	}
}
