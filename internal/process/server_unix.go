//go:build unix

package process

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
)

// Server makes workers. See [StartServer].
type Server struct {
	opt   ServerOptions
	life  lifecycle.Life
	group *lifecycle.Group

	mu      sync.Mutex // guards all below
	mode    Mode
	proof   LifelineStatus
	forker  *forker       // nil while none runs
	failure error         // why there is none, while a restart is paused
	retryAt time.Time     // when the pause ends
	changed chan struct{} // closed, and replaced, when any of the above changes
	workers map[*Process]struct{}
	closed  bool
}

func newServer(o ServerOptions) *Server {
	return &Server{
		opt:     o,
		life:    lifecycle.Life{Name: "the process server"},
		group:   lifecycle.NewGroup(context.Background()),
		changed: make(chan struct{}),
		workers: map[*Process]struct{}{},
	}
}

// set changes what mu guards, and wakes who waits for it.
func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *Server) start(ctx context.Context) error {
	proved := make(chan LifelineStatus, 1)
	s.group.Go(func(context.Context) { proved <- ProveLifeline(ctx, s.opt.Python) })
	reason := ""
	switch {
	case s.opt.Spawn:
		reason = "configured"
	case !canFork():
		reason = "the platform is " + runtime.GOOS
	}
	var f *forker
	var refusal *refusedError
	if reason == "" {
		var err error
		f, err = startForker(ctx, s.opt)
		switch {
		case errors.As(err, &refusal):
			reason = refusal.reason
		case err != nil:
			s.group.Cancel(err)
			s.group.Wait()
			return err
		}
	}
	proof := <-proved
	if ctx.Err() != nil {
		if f != nil {
			f.close()
		}
		s.group.Cancel(ctx.Err())
		s.group.Wait()
		return status.FromContext(ctx, "start", "the Python processes were still starting")
	}
	if !proof.Kernel && f != nil {
		f.close()
		f, reason = nil, "the kernel does not support the lifeline: "+proof.Reason
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proof = proof
	if f == nil {
		s.mode = Mode{Kind: Spawn, Reason: reason}
		return nil
	}
	s.mode = Mode{Kind: Fork}
	s.forker = f
	s.group.Go(func(ctx context.Context) { s.keep(ctx, f) })
	return nil
}

func (s *Server) stop(context.Context) error {
	s.group.Cancel(closedError())
	var running []*Process
	s.set(func() {
		s.closed = true
		for p := range s.workers {
			running = append(running, p)
		}
	})
	for _, p := range running {
		p.Kill()
	}
	for _, p := range running {
		<-p.Done()
	}
	s.group.Wait()
	return nil
}

func (s *Server) fork(ctx context.Context, o WorkerOptions) (*Process, error) {
	for {
		f, err := s.current(ctx)
		if err != nil {
			return nil, err
		}
		if f == nil {
			return s.spawn(ctx, o)
		}
		p, err := s.forkFrom(ctx, f, o)
		if errors.Is(err, errForkerLost) && ctx.Err() == nil {
			if !s.forget(ctx, f) {
				return nil, closedError()
			}
			continue
		}
		return p, err
	}
}

// forkFrom asks f for a worker. The asking itself cannot be given up, because a process
// comes of it; when ctx ends first, that process is ended when it comes.
func (s *Server) forkFrom(ctx context.Context, f *forker, o WorkerOptions) (*Process, error) {
	type answer struct {
		p   *Process
		err error
	}
	answers := make(chan answer, 1)
	ask := func(context.Context) {
		p, err := f.worker(o)
		if err == nil {
			p, err = s.keepWorker(p)
		}
		answers <- answer{p, err}
	}
	if !s.group.Go(ask) {
		return nil, closedError()
	}
	select {
	case a := <-answers:
		return a.p, a.err
	case <-ctx.Done():
		tidy := func(context.Context) {
			if a := <-answers; a.p != nil {
				a.p.end()
			}
		}
		if !s.group.Go(tidy) {
			tidy(ctx) // Stop ends the fork server, so the answer is near
		}
		return nil, status.FromContext(ctx, "start", "the fork server had not made the worker yet")
	}
}

// keepWorker notes a worker until its end, so that Stop ends it. After Stop it ends the
// worker itself.
func (s *Server) keepWorker(p *Process) (*Process, error) {
	s.mu.Lock()
	closed := s.closed
	if !closed {
		s.workers[p] = struct{}{}
	}
	s.mu.Unlock()
	if closed {
		p.end()
		return nil, closedError()
	}
	s.group.Go(func(context.Context) { // refused while Stop ends the worker
		<-p.Done()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.workers, p)
	})
	return p, nil
}

// end kills a process that nobody has seen yet, and waits for its end.
func (p *Process) end() {
	p.Kill()
	<-p.done
	if p.conn != nil {
		_ = p.conn.Close()
	}
}

// spawn executes a worker.
func (s *Server) spawn(ctx context.Context, o WorkerOptions) (*Process, error) {
	s.mu.Lock()
	closed, proof := s.closed, s.proof
	s.mu.Unlock()
	if closed {
		return nil, closedError()
	}
	c, err := s.opt.Python.command("worker", map[string]any{
		"socket":  firstFD,
		"stacks":  firstFD + 1,
		"worker":  o.ID,
		"main":    s.opt.Main,
		"warm":    s.opt.Warm,
		"preload": s.opt.Preload,
		"options": o.Options,
		"watch":   !proof.Kernel,
	})
	if err != nil {
		return nil, err
	}
	c.ID, c.Socket, c.OnLine, c.TailLines = o.ID, true, o.OnLine, o.TailLines
	c.Env = append(s.environment(), o.Env...)
	p, err := launch(ctx, c, launchOptions{arm: proof.Kernel, stacks: true})
	if err != nil {
		return nil, err
	}
	return s.keepWorker(p)
}

// environment returns what is added to the environment of the server's processes.
func (s *Server) environment() []string { return serverEnvironment(s.opt) }

func serverEnvironment(o ServerOptions) []string {
	env := append([]string{}, o.Python.Env...)
	if o.Debug {
		env = append(env, "DSPEX_WORKER_DEBUG=1")
	}
	return env
}

// refusedError says why workers cannot be forked from a process that works otherwise.
type refusedError struct{ reason string }

// Error returns the reason.
func (e *refusedError) Error() string { return e.reason }

func refuse(threads, sockets []string) *refusedError {
	var parts []string
	if len(threads) > 0 {
		parts = append(parts, "preloading started threads: "+strings.Join(threads, ", "))
	}
	if len(sockets) > 0 {
		parts = append(parts, "preloading opened sockets: "+strings.Join(sockets, ", "))
	}
	if len(parts) == 0 {
		return nil
	}
	return &refusedError{strings.Join(parts, "; ")}
}
