package worker

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

// Call is one request to a worker.
type Call struct {
	// Method is what to call, such as "program.run".
	Method string
	// Program is sent to the worker before the call unless it was before; none if its Hash
	// is empty.
	Program Program
	// Message is the call's body and attachments.
	Message wire.Message
	// Handler serves what Python calls while it runs this call; nil refuses it.
	Handler wire.Handler
	// Resolve returns the Go error behind a reference that Handler gave to Python, nil if it
	// has none. It may be nil.
	Resolve func(ref uint64) error
	// Settled, if not nil, is called exactly once, when Python has confirmed the end of the
	// call or cannot run it any more: before Run returns, or, when Run returned because its
	// context ended, later. A slot must not be given to another call before.
	Settled func()
}

// call is a Call that Python may be running.
type call struct {
	method string
	began  time.Time
	given  time.Time // when its caller gave it up; zero if it did not
}

// Run makes a call and returns its result, which must be released if it has attachments.
// When ctx ends it returns at once; Python is told, and the worker is killed if it does not
// confirm within CancelGrace.
//
// Errors: what Python answered, with Remote set; canceled or deadline_exceeded; worker_lost
// with how the process ended and what it printed last; closed when Stop cut the call short;
// invalid_argument for a message that is too long. If wire.ErrNotSent is in the error's tree,
// Python has not seen the call and it can be made elsewhere.
func (w *Worker) Run(ctx context.Context, c Call) (wire.Message, error) {
	job := &call{method: c.Method, began: time.Now()}
	if err := w.begin(job); err != nil {
		settled(c)
		return wire.Message{}, err
	}
	reply, last, err := w.attempt(ctx, c)
	if err != nil && isUnknownProgram(err) && c.Program.Hash != "" {
		w.forget(c.Program.Hash)
		reply, last, err = w.attempt(ctx, c)
	}
	if err == nil {
		w.end(job)
		settled(c)
		return reply, nil
	}
	if last != nil && ctx.Err() != nil {
		select {
		case <-last.Settled():
		default:
			w.release(job, last, c)
			return wire.Message{}, w.givenUp(ctx, c)
		}
	}
	err = w.explain(ctx, c, err)
	w.end(job)
	settled(c)
	return wire.Message{}, err
}

func settled(c Call) {
	if c.Settled != nil {
		c.Settled()
	}
}

// attempt sends the program if need be, then the call. It returns the last stream that it
// opened, nil if none.
func (w *Worker) attempt(ctx context.Context, c Call) (wire.Message, *wire.Stream, error) {
	if c.Program.Hash != "" {
		if s, err := w.send(ctx, c.Program); err != nil {
			select {
			case <-w.conn.Done(): // whatever became of the program, the call was not sent
				err = errors.Join(wire.ErrNotSent, err)
			default:
			}
			return wire.Message{}, s, err
		}
	}
	var s *wire.Stream
	var err error
	if c.Handler != nil {
		s, err = w.conn.Start(ctx, c.Method, c.Message, wire.WithHandler(c.Handler))
	} else {
		s, err = w.conn.Start(ctx, c.Method, c.Message)
	}
	if err != nil {
		return wire.Message{}, nil, err
	}
	reply, err := s.Result(ctx)
	return reply, s, err
}

// begin registers a call, or says why the worker takes none.
func (w *Worker) begin(job *call) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch w.state {
	case Ready:
		w.enter(Busy)
		if w.asleep {
			w.asleep = false
			select {
			case w.nudge <- struct{}{}:
			default: // one that was not taken yet is as good
			}
		}
	case Busy:
	case Lost:
		return w.unsentLocked()
	case Starting, Draining, Stopping, Stopped:
		e := status.Wrap(status.Unavailable, "run", wire.ErrNotSent, "worker %s is %s", w.o.ID, w.state)
		e.Worker, e.Retryable = w.o.ID, true
		return e
	}
	w.calls[job] = struct{}{}
	return nil
}

// end forgets a call that Python has finished or cannot finish any more.
func (w *Worker) end(job *call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.calls, job)
	if len(w.calls) == 0 && w.state == Busy {
		w.enter(Ready)
	}
	w.quietLocked()
}

// release waits in the background until Python has confirmed the end of a call that its
// caller has given up, or kills the worker after the grace.
func (w *Worker) release(job *call, s *wire.Stream, c Call) {
	w.mu.Lock()
	job.given = time.Now()
	w.mu.Unlock()
	confirmed := s.Settled()
	watched := w.group.Go(func(context.Context) {
		defer settled(c)
		defer w.end(job)
		if patiently(confirmed, w.o.CancelGrace) {
			return
		}
		e := status.New(status.WorkerLost, "run",
			"was killed because a canceled call (%s) did not stop within %v", job.method, w.o.CancelGrace)
		e.Python = w.lastWords("it did not stop a canceled call", w.stacks())
		w.kill(e)
		<-confirmed
	})
	if !watched { // the worker has ended, and with it the call
		w.end(job)
		settled(c)
	}
}

// givenUp makes the error for a caller whose context ended while Python ran its call.
func (w *Worker) givenUp(ctx context.Context, c Call) error {
	e := status.FromContext(ctx, opOf(c.Method), "the call was still running on worker "+w.o.ID)
	e.Worker = w.o.ID
	return e
}

// explain turns what the connection said into what the caller needs to know.
func (w *Worker) explain(ctx context.Context, c Call, err error) error {
	if remote, ok := errors.AsType[*wire.RemoteError](err); ok {
		if ctx.Err() != nil && remote.Code() == status.Canceled.String() {
			return w.givenUp(ctx, c)
		}
		return w.decode(c, remote)
	}
	select {
	case <-w.conn.Done():
		return w.lost(ctx, c, err)
	default:
	}
	if ctx.Err() != nil {
		return w.givenUp(ctx, c)
	}
	var e *status.Error
	if !errors.As(err, &e) {
		e = status.Wrap(status.Internal, "run", err, "%v", err)
	}
	own := *e
	own.Op, own.Worker = opOf(c.Method), w.o.ID
	return &own
}

// lost waits until it is known how the worker ended, and makes the error of a call that was
// on it.
func (w *Worker) lost(ctx context.Context, c Call, err error) error {
	select {
	case <-w.done:
	case <-ctx.Done():
		return w.givenUp(ctx, c)
	}
	unsent := errors.Is(err, wire.ErrNotSent)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		e := status.New(status.Closed, opOf(c.Method), "worker %s was stopped before the call ended", w.o.ID)
		e.Worker = w.o.ID
		if unsent {
			e.Err = wire.ErrNotSent
		}
		return e
	}
	if unsent {
		return w.unsentLocked()
	}
	return w.ownLocked(opOf(c.Method))
}

// ownLocked returns a copy of the worker's error. The caller holds mu and the worker is lost.
func (w *Worker) ownLocked(op string) *status.Error {
	var e *status.Error
	if !errors.As(w.err, &e) { // it always is one
		return status.Wrap(status.WorkerLost, op, w.err, "worker %s is lost", w.o.ID)
	}
	own := *e
	own.Op = op
	return &own
}

// unsentLocked returns the error of a call that a lost worker has not seen. The caller holds mu.
func (w *Worker) unsentLocked() error {
	own := w.ownLocked("run")
	own.Err = errors.Join(wire.ErrNotSent, own.Err)
	own.Retryable = true
	return own
}

// opOf is what a method does, for errors: "run" for "program.run".
func opOf(method string) string {
	if i := strings.LastIndexByte(method, '.'); i >= 0 {
		return method[i+1:]
	}
	return method
}
