package process

import (
	"context"
	"log/slog"
	"maps"

	"github.com/dspex/dspex/internal/status"
)

// Kind is a way to make workers.
type Kind string

// The ways to make workers.
const (
	// Fork means that workers are forked, in a millisecond or two, from a process that has
	// imported everything.
	Fork Kind = "fork"
	// Spawn means that each worker is executed and imports everything by itself.
	Spawn Kind = "spawn"
)

// Mode tells how a server makes workers, and why not by forking.
type Mode struct {
	Kind   Kind
	Reason string // empty for Fork
}

// String returns, for example, "spawn: the platform is darwin".
func (m Mode) String() string {
	if m.Reason == "" {
		return string(m.Kind)
	}
	return string(m.Kind) + ": " + m.Reason
}

// LifelineStatus tells who acts when this process dies.
type LifelineStatus struct {
	// Kernel is true when the kernel kills the children, whatever state they are in.
	// Otherwise a thread of each child watches for the end of file.
	Kernel bool
	// Reason says why the kernel does not; empty if it does.
	Reason string
}

// String returns "kernel", or "end of file" with the reason.
func (l LifelineStatus) String() string {
	if l.Kernel {
		return "kernel"
	}
	return "end of file: " + l.Reason
}

// The functions of the worker package that a server uses unless told otherwise.
const (
	defaultMain = "dspex_worker.worker:main"
	defaultWarm = "dspex_worker.warm:preload"
)

// ServerOptions configure a [Server].
type ServerOptions struct {
	// Python is the interpreter and the worker package.
	Python Python
	// Preload names modules to import before workers are made.
	Preload []string
	// Spawn makes the server execute each worker instead of forking it.
	Spawn bool
	// Debug gives workers the capability "debug", for tests.
	Debug bool
	// Main names a worker's main function as "module:function"; empty means the worker
	// package's. It is called with the socket, the worker's id and a dict of options, and
	// its result is the exit status.
	Main string
	// Warm names the function that imports everything, called with the list Preload; empty
	// means the worker package's.
	Warm string
	// OnLine, if not nil, is given what the fork server prints; see [Command].
	OnLine func(stream string, line []byte)
	// Logger reports restarts of the fork server; nil means silence.
	Logger *slog.Logger
}

// WorkerOptions describe one worker.
type WorkerOptions struct {
	// ID names the worker. It should be short: the process is called after it.
	ID string
	// Env is added to the worker's environment, as NAME=value.
	Env []string
	// Options are passed to the worker's main function, as JSON.
	Options map[string]any
	// OnLine, if not nil, is given what the worker prints; see [Command].
	OnLine func(stream string, line []byte)
	// TailLines is how many lines [Process.Tail] keeps; 0 means 50.
	TailLines int
}

// StartServer starts what makes workers, and returns when it can: when everything is
// imported and warmed up, or at once where workers are executed one by one. ctx bounds only
// the start. Meanwhile the lifeline is proved; where the kernel does not support it, or
// where the imports have started threads or opened sockets, the server falls back to Spawn;
// see [Server.Mode] and [Server.Lifeline].
//
// Errors: unavailable when Python cannot be executed or ends while it imports, with the
// path, the exit status and the last lines it printed; unsupported on Windows; canceled or
// deadline_exceeded when ctx ends first.
func StartServer(ctx context.Context, o ServerOptions) (*Server, error) {
	if o.Main == "" {
		o.Main = defaultMain
	}
	if o.Warm == "" {
		o.Warm = defaultWarm
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Preload == nil {
		o.Preload = []string{}
	}
	s := newServer(o)
	if err := s.life.Start(ctx, s.start); err != nil {
		return nil, err
	}
	return s, nil
}

// Stop ends the fork server and every worker that still runs, and returns when they are
// gone; ctx does not prolong nor shorten that, since killing does not take long. A second
// Stop waits for the first.
func (s *Server) Stop(ctx context.Context) error {
	return s.life.Stop(ctx, s.stop)
}

// Mode tells how workers are made.
func (s *Server) Mode() Mode {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.mode
}

// Lifeline tells who acts when this process dies.
func (s *Server) Lifeline() LifelineStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proof
}

// ForkServer returns the fork server that runs now, nil while there is none. It is for
// reports and tests: the server restarts it when it ends.
func (s *Server) ForkServer() *Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.forker == nil {
		return nil
	}
	return s.forker.proc
}

// Worker makes a worker and returns once its process exists; it may not have answered yet.
// It may be called concurrently. When the fork server has died, Worker waits for the one
// that is being started in its place.
//
// Errors: unavailable when the fork server could not be restarted (at once, with the reason
// and a retry hint) or the system refuses another process; closed after Stop; canceled or
// deadline_exceeded when ctx ends first, and then no worker is left behind.
func (s *Server) Worker(ctx context.Context, o WorkerOptions) (*Process, error) {
	if o.Options == nil {
		o.Options = map[string]any{}
	}
	if s.opt.Debug {
		options := map[string]any{"debug": true}
		maps.Copy(options, o.Options)
		o.Options = options
	}
	if s.Mode().Kind == Spawn {
		return s.spawn(ctx, o)
	}
	return s.fork(ctx, o)
}

func closedError() error {
	return status.New(status.Closed, "start", "the process server was stopped")
}
