// Package lifecycle is the start/stop kit of everything that runs: [Life] decides what
// each order of Start and Stop means, [Group] owns goroutines until they have ended.
package lifecycle

import (
	"context"
	"fmt"
	"sync"

	"github.com/dspex/dspex/internal/status"
)

// State says where in its life a component is.
type State uint8

// The states, in order. A component passes through each at most once.
const (
	// New means that neither Start nor Stop was called.
	New State = iota
	// Starting means that the start function runs.
	Starting
	// Running means that the start function succeeded.
	Running
	// Stopping means that Stop was called and has not returned.
	Stopping
	// Stopped means that nothing of the component runs, and nothing ever will again.
	Stopped
)

// String returns the state's name in lower case.
func (s State) String() string {
	names := [...]string{New: "new", Starting: "starting", Running: "running", Stopping: "stopping", Stopped: "stopped"}
	if int(s) < len(names) {
		return names[s]
	}
	return fmt.Sprintf("state_%d", uint8(s))
}

// Life gives a component one start and one stop, however often and from however many
// goroutines they are asked for:
//
//   - Start runs the start function once; further calls wait for it and share its result.
//   - Stop without Start ends the component at once; Start then fails.
//   - Stop during Start cancels the start function's context, waits until it has
//     returned, and runs the stop function if it succeeded nevertheless.
//   - A second Stop waits for the first and shares its result; a Stop after that returns nil.
//   - Start after Stop fails with code closed.
//
// The zero value is ready to use. A Life must not be copied. All methods may be called
// concurrently.
type Life struct {
	// Name says in errors what was started or stopped.
	Name string

	mu          sync.Mutex // guards all below
	state       State
	started     chan struct{} // closed when the start function has returned
	stopped     chan struct{} // closed on entering Stopped
	startErr    error
	stopErr     error
	cancelStart context.CancelCauseFunc
	drain       context.Context // ends when the first Stop caller's context does
	endDrain    context.CancelCauseFunc
}

// State returns the present state.
func (l *Life) State() State {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.state
}

// Stopped returns a channel that is closed once nothing of the component runs any more.
func (l *Life) Stopped() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.init()
	return l.stopped
}

// Start runs start unless that was done before. The context given to start ends with ctx
// or when Stop is called, and after Start has returned: it bounds the starting only. When
// start fails it must have undone what it did; the component is then stopped.
//
// Errors: what start returned; closed when Stop came first; canceled or deadline_exceeded
// when ctx ended while waiting for another Start.
func (l *Life) Start(ctx context.Context, start func(context.Context) error) error {
	l.mu.Lock()
	l.init()
	switch l.state {
	case New:
	case Starting:
		started := l.started
		l.mu.Unlock()
		select {
		case <-started:
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.startErr
		case <-ctx.Done():
			return status.FromContext(ctx, "start", l.name()+" was still starting")
		}
	case Running:
		l.mu.Unlock()
		return nil
	default:
		l.mu.Unlock()
		return l.closed()
	}

	l.state = Starting
	startCtx, cancel := context.WithCancelCause(ctx)
	l.cancelStart = cancel
	l.mu.Unlock()

	err := start(startCtx)
	cancel(nil)

	l.mu.Lock()
	defer l.mu.Unlock()
	l.startErr = err
	switch {
	case l.state == Stopping: // the waiting Stop takes over
		l.startErr = l.closed()
		if err != nil {
			l.stop(nil)
		}
	case err != nil:
		l.stop(nil)
	default:
		l.state = Running
	}
	close(l.started)
	return l.startErr
}

// Stop runs stop once, provided that the component was started, and returns when nothing
// of it runs any more. ctx bounds the drain, never the end: the context given to stop
// ends as soon as that of any caller of Stop does, and stop must then finish by force.
// Errors are those of stop.
func (l *Life) Stop(ctx context.Context, stop func(context.Context) error) error {
	l.mu.Lock()
	l.init()
	switch l.state {
	case New:
		l.startErr = l.closed()
		close(l.started)
		l.stop(nil)
		l.mu.Unlock()
		return nil
	case Stopped:
		l.mu.Unlock()
		return nil
	case Stopping:
		stopped, hurry := l.stopped, l.endDrain
		l.mu.Unlock()
		release := context.AfterFunc(ctx, func() { hurry(context.Cause(ctx)) })
		defer release()
		<-stopped
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.stopErr
	default: // Starting, Running
	}

	if l.cancelStart != nil {
		l.cancelStart(l.closed())
	}
	l.state = Stopping
	l.drain, l.endDrain = context.WithCancelCause(context.WithoutCancel(ctx))
	drain, hurry, started := l.drain, l.endDrain, l.started
	l.mu.Unlock()
	defer hurry(nil)
	release := context.AfterFunc(ctx, func() { hurry(context.Cause(ctx)) })
	defer release()

	<-started
	if l.State() == Stopped { // the start failed by itself
		return nil
	}
	err := stop(drain)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stop(err)
	return err
}

// stop enters Stopped. The caller holds mu.
func (l *Life) stop(err error) {
	l.state = Stopped
	l.stopErr = err
	close(l.stopped)
}

// init makes the channels. The caller holds mu.
func (l *Life) init() {
	if l.started == nil {
		l.started = make(chan struct{})
		l.stopped = make(chan struct{})
	}
}

func (l *Life) name() string {
	if l.Name == "" {
		return "the component"
	}
	return l.Name
}

func (l *Life) closed() error {
	return status.New(status.Closed, "start", "%s was stopped", l.name())
}
