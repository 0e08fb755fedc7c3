// Package worker is one worker's life: a process, the connection to it, the calls on that
// connection, and the certainty of how each of them ended.
package worker

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

// Worker runs calls in one process. Make one with [Start]. All methods may be called
// concurrently.
//
//	starting → ready ⇄ busy → draining → stopping → stopped
//
// Any of these but the last can end in lost, and each can be told to stop.
type Worker struct {
	o     Options
	proc  Process
	conn  *wire.Conn
	hello wire.Hello // the worker's, set by Start

	group *lifecycle.Group // supervision, health, calls that were canceled
	done  chan struct{}    // closed on entering Stopped or Lost
	nudge chan struct{}    // wakes the health check of a worker that was idle

	mu       sync.Mutex // guards all below
	state    State
	calls    map[*call]struct{} // those that Python may still run
	programs map[string]*sending
	drained  chan struct{} // closed when draining and no calls are left
	forced   bool          // Stop ran out of patience
	cause    *status.Error // why the worker was killed, if it was
	err      error         // set with Lost
	ended    string        // how the process ended, once it has
	exitErr  error         // what was wrong with an exit that was asked for
	asleep   bool          // the health check waits for PingIdle
}

// Start starts a process and returns when it has answered a first call: it is ready then.
//
// Errors: those of Options.Process; unavailable, with the process's exit status and last
// lines, when it ended instead of answering, when it did not answer in time, or when it is
// of another version; canceled or deadline_exceeded when ctx ends first. Nothing is left of
// a worker that was not started.
func Start(ctx context.Context, o Options) (*Worker, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	proc, err := o.Process(ctx)
	if err != nil {
		return nil, err
	}
	w := &Worker{
		o:        o,
		proc:     proc,
		group:    lifecycle.NewGroup(context.WithoutCancel(ctx)),
		done:     make(chan struct{}),
		nudge:    make(chan struct{}, 1),
		calls:    make(map[*call]struct{}),
		programs: make(map[string]*sending),
		drained:  make(chan struct{}),
	}
	w.conn = wire.NewConn(proc.Conn(), wire.Options{
		Side:           wire.Host,
		Hello:          o.Hello,
		MaxFrame:       o.MaxFrame,
		Window:         o.Window,
		MaxAttachments: o.MaxAttachments,
		TempDir:        o.TempDir,
		Log:            w.log,
		Panicked:       w.panicked,
	})
	w.group.Go(w.supervise)
	if err := w.greet(ctx); err != nil {
		return nil, w.abandon(ctx, err)
	}
	w.group.Go(w.watch)
	return w, nil
}

// greet shakes hands and makes the call that proves the worker ready.
func (w *Worker) greet(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, w.o.StartTimeout)
	defer cancel()
	hello, err := w.conn.Handshake(ctx)
	if err != nil {
		return err
	}
	if ours := w.o.Hello.Version; ours != "" && hello.Version != ours {
		return status.New(status.Unavailable, "start",
			"the worker is of version %q, this program of version %q; remove the Python environment and set it up again",
			hello.Version, ours)
	}
	question := []byte(`{"ready":true}`)
	answer, err := w.conn.Call(ctx, "worker.echo", wire.Message{Body: question})
	if err != nil {
		return err
	}
	answer.Release()
	if !bytes.Equal(answer.Body, question) {
		return status.New(status.Unavailable, "start", "the worker answered its first call with %.80q", answer.Body)
	}
	w.hello = hello
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.enter(Ready) {
		return status.New(status.Unavailable, "start", "the worker ended as soon as it was ready")
	}
	return nil
}

// abandon kills a worker that did not start and makes the error that tells why.
func (w *Worker) abandon(ctx context.Context, err error) error {
	killed := false
	select {
	case <-w.conn.Done(): // it ended by itself, or soon will: supervise gives it the time
	default:
		killed = true
	}
	timedOut := ctx.Err() == nil && errors.Is(err, context.DeadlineExceeded)
	var stacks string
	if timedOut {
		stacks = w.stacks()
	}
	if killed {
		w.kill(status.New(status.WorkerLost, "start", "was killed: %v", err))
	}
	<-w.done
	w.settleDown()

	var e *status.Error
	switch {
	case ctx.Err() != nil && killed:
		e = status.FromContext(ctx, "start", "worker "+w.o.ID+" was still starting")
	case timedOut:
		e = status.New(status.Unavailable, "start", "worker %s did not answer within %v", w.o.ID, w.o.StartTimeout)
		e.Python = w.lastWords("it did not answer in time", stacks)
	case killed:
		e = status.New(status.Unavailable, "start", "worker %s could not be started: %s", w.o.ID, text(err))
		e.Python = w.lastWords("it was not of use", "")
	default:
		e = status.New(status.Unavailable, "start", "worker %s could not be started: it %s", w.o.ID, w.ended)
		e.Python = w.lastWords(w.proc.Exit().String(), "")
	}
	e.Worker = w.o.ID
	e.Retryable = e.Code == status.Unavailable
	return e
}

// ID returns the worker's name.
func (w *Worker) ID() string { return w.o.ID }

// PID returns the id of the worker's process, for information.
func (w *Worker) PID() int { return w.proc.PID() }

// Hello returns what the worker said of itself.
func (w *Worker) Hello() wire.Hello { return w.hello }

// Done returns a channel that is closed when the worker serves no more and its process is gone.
func (w *Worker) Done() <-chan struct{} { return w.done }

// Err returns why the worker is lost: a *status.Error of code worker_lost that tells how the
// process ended and what it printed last. It is nil before Done and after a stop.
func (w *Worker) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// State returns what the worker does now.
func (w *Worker) State() State {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.state
}

// Calls returns how many calls the worker may still run, canceled ones included.
func (w *Worker) Calls() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.calls)
}

// text is an error without the name of the program and of the code.
func text(err error) string {
	var e *status.Error
	if errors.As(err, &e) && e.Message != "" {
		return e.Message
	}
	return err.Error()
}

// settleDown waits for the goroutines of a worker that has ended, and a moment for the
// handlers of its reverse calls, whose contexts have ended.
func (w *Worker) settleDown() {
	w.group.Cancel(status.New(status.Closed, "stop", "worker %s has ended", w.o.ID))
	w.group.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), handlerGrace)
	defer cancel()
	if err := w.conn.Wait(ctx); err != nil {
		w.o.Logger.Warn("worker: code that served the worker goes on although its context has ended", "error", err)
	}
}

// handlerGrace is how long Stop waits for the handlers of reverse calls after their contexts
// have ended: an HTTP client returns within microseconds, and what does not heed its context
// must not keep a pool from stopping.
const handlerGrace = time.Second
