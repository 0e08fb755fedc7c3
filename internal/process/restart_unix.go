//go:build unix

package process

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/dspex/dspex/internal/status"
)

const (
	// restartFirst is the pause before a fork server that failed is started again; it
	// doubles with each failure in a row up to restartMax. The first restart is immediate.
	restartFirst = 100 * time.Millisecond
	restartMax   = 10 * time.Second
	// restartForget is how long a fork server must live for one failure to be forgotten. It
	// is longer than a fork server takes to import, so that one that dies at once is not
	// started in a loop.
	restartForget = time.Second
)

// keep restarts the fork server whenever it has ended.
func (s *Server) keep(ctx context.Context, f *forker) {
	failures := 0
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			f.close()
			return
		case <-f.lost:
		}
		f.close()
		failures = max(failures-int(time.Since(began)/restartForget), 0)
		s.opt.Logger.Warn("the fork server has ended and is started again",
			"pid", f.proc.PID(), "exit", f.proc.Exit().String(), "tail", f.proc.Tail())
		s.set(func() { s.forker = nil })

		var err error
		for {
			if !s.pause(ctx, failures, err) {
				return
			}
			failures++
			f, err = startForker(ctx, s.opt)
			began = time.Now()
			if ctx.Err() != nil {
				if f != nil {
					f.close()
				}
				return
			}
			if refusal, ok := errors.AsType[*refusedError](err); ok {
				s.set(func() { s.mode = Mode{Kind: Spawn, Reason: refusal.reason} })
				return
			}
			if err == nil {
				break
			}
			s.opt.Logger.Error("the fork server could not be started", "error", err)
		}
		s.set(func() { s.forker = f })
	}
}

// pause waits before the next start. Meanwhile workers that are asked for fail with err,
// unless it is nil.
func (s *Server) pause(ctx context.Context, failures int, err error) bool {
	if failures == 0 {
		return ctx.Err() == nil
	}
	wait := min(restartFirst<<min(failures-1, 20), restartMax)
	wait += rand.N(wait / 4) //nolint:gosec // only spreads restarts
	s.set(func() { s.failure, s.retryAt = err, time.Now().Add(wait) })
	defer s.set(func() { s.failure = nil })
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// current returns the running fork server, waiting for one that is being started.
func (s *Server) current(ctx context.Context) (*forker, error) {
	for {
		s.mu.Lock()
		f, failure, retryAt, changed := s.forker, s.failure, s.retryAt, s.changed
		closed, spawn := s.closed, s.mode.Kind == Spawn
		s.mu.Unlock()
		switch {
		case closed:
			return nil, closedError()
		case spawn:
			return nil, nil //nolint:nilnil // there is none, and that is no failure
		case f != nil:
			return f, nil
		case failure != nil:
			return nil, again(failure, retryAt)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, status.FromContext(ctx, "start", "the fork server was being restarted")
		}
	}
}

// again returns the failure of the last restart with a hint when the next one is due.
func again(failure error, at time.Time) error {
	var e *status.Error
	if !errors.As(failure, &e) {
		return failure
	}
	hinted := *e
	hinted.Retryable = true
	hinted.RetryAfter = max(time.Until(at), 0)
	return &hinted
}

// forget waits until f, which is lost, is no longer the current fork server. It returns
// false when the server was stopped meanwhile.
func (s *Server) forget(ctx context.Context, f *forker) bool {
	for {
		s.mu.Lock()
		same, closed, changed := s.forker == f, s.closed, s.changed
		s.mu.Unlock()
		switch {
		case closed:
			return false
		case !same:
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return true
		}
	}
}
