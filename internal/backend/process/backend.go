// Package process executes programs on a pool of Python workers.
package process

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/pool"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/worker"
)

// Name is the setting that selects this backend.
const Name = "process"

// Options says how the backend works. All sizes and durations are in force as given;
// the root package holds the defaults.
type Options struct {
	// Python says which environment the workers run in.
	Python pyenv.Options
	// Spawn starts each worker as a new interpreter instead of forking it.
	Spawn bool
	// Preload lists modules to import before forking.
	Preload []string
	// Min, Max, Slots, Overflow and Queue are the pool's sizes.
	Min, Max, Slots, Overflow, Queue int
	// Lazy starts nothing before the first call.
	Lazy bool
	// StartTimeout bounds the start of a worker.
	StartTimeout time.Duration
	// CancelGrace is how long a canceled call may go on before its worker is killed.
	CancelGrace time.Duration
	// IdleTimeout is how long a worker above Min stays without work.
	IdleTimeout time.Duration
	// GrowAfter is how long a call queues before the pool adds a worker for it.
	GrowAfter time.Duration
	// Recycle says when workers are replaced by fresh ones; its Memory is their
	// proportional set size.
	Recycle pool.Recycle
	// MemoryLimit is how many bytes of private memory a worker may have; 0 for no limit.
	MemoryLimit int64
	// StuckAfter is how long a worker may give no sign of life; 0 for the default.
	StuckAfter time.Duration
	// Version is dspex's own, for the handshake.
	Version string
	// Logger gets events and the workers' output.
	Logger *slog.Logger
	// Environ is added to the allow-listed environment of the Python processes, as
	// NAME=value.
	Environ []string
	// Debug lets the workers misbehave on request; tests use it.
	Debug bool
}

// Backend is the backend of this package.
type Backend struct {
	options Options
	life    lifecycle.Life
	source  *source
	roster  roster
	pool    *pool.Pool[*worker.Worker]
	answers *lifecycle.Group // the goroutines that ask models
}

var _ backend.Backend = (*Backend)(nil)

// New returns a backend that was not started. It fails for sizes that contradict
// each other, and for limits that the platform cannot keep.
func New(o Options) (*Backend, error) {
	if err := measurable(o); err != nil {
		return nil, err
	}
	b := &Backend{options: o, source: newSource(o), answers: lifecycle.NewGroup(context.Background())}
	b.life.Name = "the process backend"
	p, err := pool.New(pool.Config[*worker.Worker]{
		Min:         o.Min,
		Max:         o.Max,
		Slots:       o.Slots,
		Overflow:    o.Overflow,
		Lazy:        o.Lazy,
		Queue:       o.Queue,
		GrowAfter:   o.GrowAfter,
		Recycle:     o.Recycle,
		Memory:      func(w *worker.Worker) (int64, error) { return proportional(w.PID()) },
		IdleTimeout: o.IdleTimeout,
		Start:       b.startWorker,
		OnEvent:     b.happened,
		Logger:      o.Logger,
	})
	if err != nil {
		return nil, err
	}
	b.pool = p
	return b, nil
}

// Name returns "process".
func (b *Backend) Name() string { return Name }

// Start makes the environment ready, starts the fork server and Min workers, and returns
// when they have answered; with Lazy it returns at once.
func (b *Backend) Start(ctx context.Context) error {
	return b.life.Start(ctx, func(ctx context.Context) error {
		if !b.options.Lazy {
			if _, err := b.source.server(ctx); err != nil {
				return b.undo(err)
			}
		}
		if err := b.pool.Start(ctx); err != nil {
			return b.undo(err)
		}
		return nil
	})
}

// undo ends what a failed start has begun; there is nothing to drain.
func (b *Backend) undo(cause error) error {
	now, cancel := context.WithCancel(context.Background())
	cancel()
	if err := b.shutdown(now); err != nil {
		b.options.Logger.Warn("a failed start could not be undone", "error", err)
	}
	return cause
}

func (b *Backend) shutdown(ctx context.Context) error {
	err := errors.Join(b.pool.Stop(ctx), b.source.stop(ctx))
	b.answers.Cancel(status.ErrClosed)
	if !patiently(b.answers.Wait) {
		b.options.Logger.Warn("a language model goes on although the context of its call has ended")
	}
	return err
}

// modelGrace is how long Stop waits for models after the contexts of their calls have
// ended: an HTTP client returns within microseconds, and one that does not heed its
// context must not keep a program from ending.
const modelGrace = time.Second

// patiently reports whether wait returned within the grace.
func patiently(wait func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		wait()
	}()
	timer := time.NewTimer(modelGrace)
	defer timer.Stop()
	select {
	case <-done:
		return true
	case <-timer.C:
		return false
	}
}

// happened follows the pool.
func (b *Backend) happened(e pool.Event) {
	if e.Kind == pool.Lost || e.Kind == pool.Stopped {
		b.roster.remove(e.Worker)
	}
}

// Stop drains the pool until ctx ends, then ends every process. It returns when none
// is left.
func (b *Backend) Stop(ctx context.Context) error {
	return b.life.Stop(ctx, b.shutdown)
}

// Ready waits until the pool has its Min workers.
func (b *Backend) Ready(ctx context.Context) error { return b.pool.Ready(ctx) }

// Idle waits until no call is running or queued.
func (b *Backend) Idle(ctx context.Context) error { return b.pool.Idle(ctx) }

// Reset replaces every worker.
func (b *Backend) Reset(ctx context.Context) error { return b.pool.Reset(ctx) }

// Check builds the program in a worker.
func (b *Backend) Check(ctx context.Context, program backend.Program) error {
	out, err := b.do(ctx, job{method: "program.check", program: program, body: func() ([]byte, error) {
		return json.Marshal(map[string]string{"program": program.Hash})
	}})
	if err != nil {
		return err
	}
	out.message.Release()
	return nil
}

// Stats returns a snapshot.
func (b *Backend) Stats() backend.Stats {
	s := b.pool.Stats()
	out := backend.Stats{
		Backend:       Name,
		Queued:        s.Queued,
		Running:       s.Leased,
		Slots:         s.Leased + s.Free,
		Started:       s.Counters.Started,
		Lost:          s.Counters.Lost,
		StartFailures: s.Counters.StartFailures,
		Workers:       make([]backend.WorkerStats, 0, len(s.Workers)),
	}
	out.Mode, out.Notes = b.source.describe()
	for _, w := range s.Workers {
		state := w.State
		if state == "ready" && w.InUse > 0 {
			state = "busy"
		}
		out.Workers = append(out.Workers, backend.WorkerStats{
			Worker: b.roster.worker(w.ID),
			State:  state,
			Calls:  w.InUse,
		})
	}
	return out
}
