package dspex

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/backend/process"
	"github.com/dspex/dspex/internal/chaos"
	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/pool"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

// A Runner executes programs. It is sealed: *[Runtime] and *[Session] satisfy it.
type Runner interface {
	runtime() *Runtime
	execute(ctx context.Context, call *backend.Call) (*backend.Reply, error)
}

// Runtime executes programs on a supervised pool of Python workers. Its methods are
// safe for concurrent use. Several Runtimes in one process share nothing.
type Runtime struct {
	settings Settings
	backend  backend.Backend
	models   map[string]lm.Model
	logger   *slog.Logger
	sessions *affinities
	store    Store
	calls    atomic.Uint64

	closing sync.Once
	closed  chan struct{}
	err     error
}

// Open starts a Runtime and returns when it is ready: Python has answered a call. With
// [Settings].Lazy it returns at once and starts on first use.
//
// When nothing is set up yet, Open first builds the Python environment, which needs the
// network once and takes some seconds; see `dspex setup`. ctx bounds the start only.
//
// It fails with [CodeInvalidArgument] for contradictory settings and [CodeUnavailable]
// when the workers cannot be started; the message says what to do. Nothing is left
// running then.
func Open(ctx context.Context, config Config) (*Runtime, error) {
	settings, err := config.resolve()
	if err != nil {
		return nil, err
	}
	models := maps.Clone(config.LMs)
	if models == nil {
		models = make(map[string]lm.Model, 1)
	}
	if config.LM != nil {
		if models[DefaultRoute] != nil {
			return nil, status.New(status.InvalidArgument, "open",
				"Config.LM and Config.LMs[%q] are both set; keep one", DefaultRoute)
		}
		models[DefaultRoute] = config.LM
	}
	logger := config.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	options := settings.process(logger)
	handle := chaos.From(ctx)
	if handle != nil {
		options.Debug, options.Environ = true, handle.Environ
	}
	b, err := process.New(options)
	if err != nil {
		return nil, err
	}
	if handle != nil {
		handle.Attach(b.Debug)
	}
	if err := b.Start(ctx); err != nil {
		return nil, err
	}
	return &Runtime{
		settings: settings,
		backend:  b,
		models:   models,
		logger:   logger,
		sessions: newAffinities(settings.Session.TTL, settings.Session.Max, config.clock()),
		store:    config.store(),
		closed:   make(chan struct{}),
	}, nil
}

// Close takes no more calls, lets those that are running finish, and stops every
// worker. The drain ends after [Settings].DrainTimeout or with ctx, whichever is first;
// calls that are still running then fail with [CodeClosed]. When Close returns, no
// process, goroutine or file of the Runtime is left. Another Close waits for the first
// and returns its result.
func (rt *Runtime) Close(ctx context.Context) error {
	rt.closing.Do(func() {
		defer close(rt.closed)
		ctx, cancel := context.WithTimeout(ctx, rt.settings.DrainTimeout)
		defer cancel()
		rt.err = rt.backend.Stop(ctx)
	})
	<-rt.closed
	return rt.err
}

// Ready waits until a call would be taken at once. It fails when ctx ends, with
// [CodeUnavailable] when no worker can be started, and with [CodeClosed].
func (rt *Runtime) Ready(ctx context.Context) error { return rt.backend.Ready(ctx) }

// Idle waits until no call is running or queued. It fails when ctx ends.
func (rt *Runtime) Idle(ctx context.Context) error { return rt.backend.Idle(ctx) }

// Reset replaces every worker by a fresh one, without failing a call. It returns when
// the workers that existed are gone.
func (rt *Runtime) Reset(ctx context.Context) error { return rt.backend.Reset(ctx) }

// Stats returns a consistent snapshot; it is the caller's own.
func (rt *Runtime) Stats() Stats { return rt.backend.Stats() }

// Backend returns the name of the backend that executes programs.
func (rt *Runtime) Backend() string { return rt.backend.Name() }

// Check builds programs in a worker without running them, so that a mistake shows at
// start-up. It returns the first error, with code [CodeInvalidProgram] if a program
// cannot be built.
func (rt *Runtime) Check(ctx context.Context, programs ...AnyProgram) error {
	for _, p := range programs {
		if err := p.Err(); err != nil {
			return err
		}
		if err := rt.backend.Check(ctx, p.wire()); err != nil {
			return err
		}
	}
	return nil
}

// process translates settings that are in force.
func (s Settings) process(logger *slog.Logger) process.Options {
	return process.Options{
		Python: pyenv.Options{
			Interpreter: s.Python.Interpreter,
			Path:        s.Python.Path,
			Dir:         s.Python.Dir,
		},
		Recycle: pool.Recycle{
			Requests: s.RecycleRequests,
			Age:      s.RecycleAge,
			Idle:     s.RecycleIdle,
			Memory:   s.RecycleMemory,
		},
		MemoryLimit:  s.MemoryLimit,
		StuckAfter:   s.StuckAfter,
		GrowAfter:    s.GrowAfter,
		Spawn:        s.Python.Spawn,
		Preload:      s.Python.Preload,
		Min:          s.Min,
		Max:          s.Max,
		Slots:        s.Slots,
		Overflow:     s.Overflow,
		Queue:        s.Queue,
		Lazy:         s.Lazy,
		StartTimeout: s.StartTimeout,
		CancelGrace:  s.CancelGrace,
		IdleTimeout:  s.IdleTimeout,
		Version:      Version,
		Logger:       logger,
	}
}

func (rt *Runtime) runtime() *Runtime { return rt }

func (rt *Runtime) execute(ctx context.Context, call *backend.Call) (*backend.Reply, error) {
	return rt.backend.Run(ctx, call)
}

func (rt *Runtime) callID() string {
	return "c" + strconv.FormatUint(rt.calls.Add(1), 10)
}

// route finds the model of a call: nil without error when there is none at all.
func (rt *Runtime) route(name string) (lm.Model, string, error) {
	if name == "" {
		name = DefaultRoute
	}
	model := rt.models[name]
	if model == nil && name != DefaultRoute {
		known := slices.Sorted(maps.Keys(rt.models))
		hint := "Config.LMs has none"
		if near, ok := nearest.Nearest(name, known); ok {
			hint = "did you mean " + strconv.Quote(near) + "?"
		}
		return nil, "", status.New(status.InvalidArgument, "run", "no language model is named %q; %s", name, hint)
	}
	return model, name, nil
}

// Stats is a snapshot of a [Runtime].
type Stats = backend.Stats

// WorkerStats describes one worker of a [Runtime].
type WorkerStats = backend.WorkerStats
