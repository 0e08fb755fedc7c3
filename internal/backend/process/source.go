package process

import (
	"context"
	"errors"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/backend"
	osprocess "github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
)

// source is where workers come from: the environment, probed once, and the fork server
// in it, started once. One caller at a time makes them; a failure is not kept, so the
// next caller tries again.
type source struct {
	options Options
	turn    chan struct{} // held by the caller that makes what is missing

	mu     sync.Mutex // guards all below
	env    *pyenv.Env
	forker *osprocess.Server
}

func newSource(o Options) *source {
	return &source{options: o, turn: make(chan struct{}, 1)}
}

// server returns the running fork server, making it first if need be.
func (s *source) server(ctx context.Context) (*osprocess.Server, error) {
	if server := s.running(); server != nil {
		return server, nil
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if server := s.running(); server != nil {
		return server, nil
	}
	env, err := s.environment(ctx)
	if err != nil {
		return nil, err
	}
	server, err := s.start(ctx, env)
	if err != nil && damaged(err, env) && len(s.options.Preload) == 0 {
		server, err = s.repair(ctx, err)
	}
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.forker = server
	s.mu.Unlock()
	return server, nil
}

func (s *source) start(ctx context.Context, env *pyenv.Env) (*osprocess.Server, error) {
	return osprocess.StartServer(ctx, osprocess.ServerOptions{
		Python:  osprocess.Python{Path: env.Python, Source: env.Source, Env: s.options.Environ},
		Preload: s.options.Preload,
		Spawn:   s.options.Spawn,
		Debug:   s.options.Debug,
		Logger:  s.options.Logger,
	})
}

// damaged reports whether a start failed as it does when files of a built environment are
// missing or spoilt. An environment of the user's own is theirs to repair.
func damaged(err error, env *pyenv.Env) bool {
	raised, ok := errors.AsType[*status.PythonError](err)
	if env.Own || !ok {
		return false
	}
	said := raised.Message + strings.Join(raised.Stderr, "\n")
	return strings.Contains(said, "ImportError") || strings.Contains(said, "ModuleNotFoundError") ||
		strings.Contains(said, "SyntaxError")
}

// repair builds the environment anew, once, and starts in it.
func (s *source) repair(ctx context.Context, cause error) (*osprocess.Server, error) {
	s.options.Logger.WarnContext(ctx, "the Python environment is damaged and is built anew", "error", cause)
	options := s.options.Python
	options.Rebuild = true
	env, err := pyenv.Ensure(ctx, options)
	if err != nil {
		return nil, status.Wrap(status.Unavailable, "open", errors.Join(cause, err),
			"the Python environment is damaged (%v) and could not be built anew; run `dspex setup --rebuild`", cause)
	}
	s.mu.Lock()
	s.env = env
	s.mu.Unlock()
	return s.start(ctx, env)
}

// environment returns the Python environment, found, checked or built at the first call.
func (s *source) environment(ctx context.Context) (*pyenv.Env, error) {
	s.mu.Lock()
	env := s.env
	s.mu.Unlock()
	if env != nil {
		return env, nil
	}
	env, err := pyenv.Ensure(ctx, s.options.Python)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	s.env = env
	s.mu.Unlock()
	return env, nil
}

func (s *source) running() *osprocess.Server {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.forker
}

// stop ends the fork server. Nobody may be making one.
func (s *source) stop(ctx context.Context) error {
	if server := s.running(); server != nil {
		return server.Stop(ctx)
	}
	return nil
}

// describe tells how workers are made, and what the platform does not offer.
func (s *source) describe() (mode string, notes []string) {
	server := s.running()
	if server == nil {
		return "", nil
	}
	m := server.Mode()
	if m.Reason != "" {
		notes = append(notes, m.String())
	}
	if l := server.Lifeline(); !l.Kernel {
		notes = append(notes, "lifeline: "+l.String())
	}
	return string(m.Kind), notes
}

// roster remembers the processes of the workers that live, for statistics.
type roster struct {
	mu   sync.Mutex
	pids map[string]int // by worker id; guarded by mu
}

func (r *roster) add(id string, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pids == nil {
		r.pids = make(map[string]int)
	}
	r.pids[id] = pid
}

func (r *roster) remove(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, id)
}

func (r *roster) worker(id string) backend.Worker {
	r.mu.Lock()
	defer r.mu.Unlock()
	return backend.Worker{ID: id, PID: r.pids[id]}
}
