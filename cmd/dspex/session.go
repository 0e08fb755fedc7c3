package main

import (
	"context"
	"errors"
	"iter"
	"sync"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

// session is a Runtime with its model.
type session struct {
	rt      *dspex.Runtime
	closing func(context.Context) error // the model's
}

// open starts the Runtime and the model side by side, setting up Python first where that
// has not been done. When it fails, nothing is left running.
func (a *app) open(ctx context.Context, o opening, model opener) (*session, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	pending := &pendingModel{ready: make(chan struct{})}
	var (
		s         session
		modelErr  error
		openErr   error
		openingUp sync.WaitGroup
	)
	openingUp.Go(func() {
		var m lm.Model
		if m, s.closing, modelErr = model(ctx); modelErr != nil {
			cancel(modelErr)
			return
		}
		pending.model = m
		close(pending.ready)
	})
	openingUp.Go(func() {
		if _, openErr = pyenv.Ensure(ctx, environment(o)); openErr == nil {
			s.rt, openErr = dspex.Open(ctx, dspex.Config{Settings: o.settings, LM: pending, Logger: o.logger})
		}
		if openErr != nil {
			cancel(openErr)
		}
	})
	openingUp.Wait()
	if modelErr == nil && openErr == nil {
		return &s, nil
	}
	// The first of the two to fail made the other end; its error is the one that explains.
	err := context.Cause(ctx)
	return nil, errors.Join(err, s.close(withoutCancel(ctx)))
}

// close stops what open started. It is bounded by the drain timeout.
func (s *session) close(ctx context.Context) error {
	var err error
	if s.rt != nil {
		err = s.rt.Close(ctx)
	}
	if s.closing != nil {
		err = errors.Join(err, s.closing(ctx))
	}
	return err
}

// environment says which Python environment the workers use.
func environment(o opening) pyenv.Options {
	return pyenv.Options{
		Interpreter: o.settings.Python.Interpreter,
		Path:        o.settings.Python.Path,
		Dir:         o.settings.Python.Dir,
		Progress:    o.progress,
	}
}

// pendingModel stands for a model that is still starting. ready is closed once model is set.
type pendingModel struct {
	ready chan struct{}
	model lm.Model
}

func (p *pendingModel) wait(ctx context.Context) error {
	select {
	case <-p.ready:
		return nil
	case <-ctx.Done():
		return status.FromContext(ctx, "lm", "the language model had not started yet")
	}
}

// Complete waits for the model and asks it.
func (p *pendingModel) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	if err := p.wait(ctx); err != nil {
		return nil, err
	}
	return p.model.Complete(ctx, req)
}

// Stream waits for the model and asks it.
func (p *pendingModel) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		if err := p.wait(ctx); err != nil {
			yield(lm.Event{}, err)
			return
		}
		for ev, err := range p.model.Stream(ctx, req) {
			if !yield(ev, err) {
				return
			}
		}
	}
}

// Capabilities returns those of the model, or none while it starts.
func (p *pendingModel) Capabilities(model string) lm.Capabilities {
	select {
	case <-p.ready:
		return lm.CapabilitiesOf(p.model, model)
	default:
		return lm.Capabilities{}
	}
}
