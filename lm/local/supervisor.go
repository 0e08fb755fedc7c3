package local

import (
	"context"
	"sync"

	"github.com/dspex/dspex/internal/status"
)

// supervisor keeps one server running: it starts one when there is none, for however many
// requests wait at once. A start goes on when those who wait for it leave, so that requests
// with short deadlines cannot keep the model from ever being ready; close stops it.
type supervisor struct {
	start  func(context.Context) (*server, error)
	ctx    context.Context //nolint:containedctx // the life of the starts that it owns
	cancel context.CancelFunc
	starts sync.WaitGroup // the goroutines of attempts

	mu      sync.Mutex // guards what follows
	current *attempt
	closed  bool
}

// attempt is a start. server and err are valid once done is closed.
type attempt struct {
	done   chan struct{}
	server *server
	err    error
}

func newSupervisor(start func(context.Context) (*server, error)) *supervisor {
	ctx, cancel := context.WithCancel(context.Background())
	return &supervisor{start: start, ctx: ctx, cancel: cancel}
}

// usable reports whether a request can go on with the attempt.
func (a *attempt) usable() bool {
	select {
	case <-a.done:
		return a.err == nil && a.server.alive()
	default:
		return true
	}
}

// begin returns the attempt to wait for, a new one if need be.
func (s *supervisor) begin() (*attempt, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, status.New(status.Closed, op, "the model is closed")
	}
	if last := s.current; last == nil || !last.usable() {
		a := &attempt{done: make(chan struct{})}
		s.current = a
		s.starts.Go(func() {
			defer close(a.done)
			if last != nil && last.err == nil {
				last.server.stop() // It has died; this lets go of what it held.
			}
			a.server, a.err = s.start(s.ctx)
		})
	}
	return s.current, nil
}

// get returns a running server.
func (s *supervisor) get(ctx context.Context) (*server, error) {
	a, err := s.begin()
	if err != nil {
		return nil, err
	}
	select {
	case <-a.done:
		return a.server, a.err
	case <-ctx.Done():
		return nil, status.FromContext(ctx, op, "the model was not ready in time")
	}
}

// running returns the server that runs now, nil if none does.
func (s *supervisor) running() *server {
	s.mu.Lock()
	a := s.current
	s.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.done:
		if a.usable() {
			return a.server
		}
	default:
	}
	return nil
}

// close stops everything and waits for it.
func (s *supervisor) close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	last := s.current
	s.mu.Unlock()
	s.cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		s.starts.Wait()
		if last != nil && last.err == nil {
			last.server.stop()
		}
	}()
	select {
	case <-stopped:
		return nil
	case <-ctx.Done():
		return status.FromContext(ctx, "close", "the model's process was killed, but has not ended yet")
	}
}
