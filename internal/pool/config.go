package pool

import (
	"context"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// Worker is what the pool leases. All methods may be called concurrently.
type Worker interface {
	// ID names the worker. It is the ID of the StartInfo it was started with.
	ID() string
	// Done is closed when the worker serves no more: it was stopped or it was lost.
	Done() <-chan struct{}
	// Err tells why Done is closed: nil for a worker that was stopped.
	Err() error
	// Stop lets the calls in flight finish, then ends the worker. ctx ends the waiting:
	// what then still runs is killed. It returns when nothing of the worker is left; it
	// may be called again, concurrently, with a more impatient context.
	Stop(ctx context.Context) error
}

// StartInfo tells a start function what it starts.
type StartInfo struct {
	// ID is the new worker's name, never used before in this pool.
	ID string
	// Seat is the place that the worker takes: 0 to Max+Overflow-1.
	Seat int
	// Generation counts the resets of the pool before this start, from 1.
	Generation uint64
}

// Config says how many workers a pool has and how it starts them.
type Config[W Worker] struct {
	// Min is the number of workers that are always kept, 0 to Max.
	Min int
	// Max is the number of workers that the pool grows to, at least 1.
	Max int
	// Slots is how many leases one worker can hold at the same time, at least 1.
	Slots int
	// Overflow is how many workers beyond Max may live for as long as callers queue.
	Overflow int
	// Lazy starts no worker before the first Acquire or Ready.
	Lazy bool
	// Queue is how many callers may wait for a slot; 0 lets nobody wait, which only a
	// pool of fixed size allows.
	Queue int
	// GrowAfter is how long a caller waits before the pool grows for it; 0 grows at once.
	// A pool that has no worker at all always grows at once.
	GrowAfter time.Duration
	// IdleTimeout is how long a worker beyond Min may have nothing to do before it is
	// stopped; 0 keeps it for ever.
	IdleTimeout time.Duration
	// Recycle replaces workers that have served long enough.
	Recycle Recycle
	// Memory tells how many bytes a worker uses; only Recycle.Memory needs it. It is called
	// for workers that have served, one at a time, at most once a second for each, without
	// any lock held.
	Memory func(w W) (int64, error)
	// StopTimeout bounds the stopping of a worker that holds no lease, after which it is
	// killed; 0 means 5 s.
	StopTimeout time.Duration
	// Backoff delays restarts in one seat.
	Backoff Backoff
	// Breaker stops all starts for a while when none succeeds.
	Breaker Breaker
	// Start starts one worker and returns when it can be leased. It is called concurrently.
	// Its context ends when the pool stops, not when the worker has started. It must leave
	// nothing behind when it fails.
	Start func(ctx context.Context, info StartInfo) (W, error)
	// OnEvent is told each change of the pool, one at a time, in order, without any lock
	// held. It may be nil. It must not call Stop, and should return soon: the pool does
	// not wait for it, but forgets events beyond 4,096 that were not taken.
	OnEvent func(Event)
	// Logger gets the same events; nil logs nothing.
	Logger *slog.Logger
}

// Backoff delays the restart of a worker in its seat. Each failure (a start that failed, a
// worker that died) adds one to the seat's count; the count halves for each HalfLife that a
// worker was up, and starts anew with one that has served: capacity that callers use is
// restored at once, however often it is lost. Zero fields mean the defaults.
type Backoff struct {
	// Base is the delay after the first failed start, doubled for each further failure;
	// default 100 ms.
	Base time.Duration
	// Max is the longest delay; default 30 s.
	Max time.Duration
	// HalfLife is the time a worker must be up to halve the count; default 1 s. A worker
	// that has been up for so long, or has served, also proves that workers can be started.
	HalfLife time.Duration
	// Tolerance is how many deaths in a row are answered by a restart at once; default 8,
	// about five deaths a second of workers that nobody uses.
	Tolerance int
}

// Breaker opens when Threshold failures happened in a row and no worker is up that has
// proved itself. Zero fields mean the defaults.
type Breaker struct {
	// Threshold is the number of failures in a row; default 3. The first start of all
	// opens the breaker at once when it fails.
	Threshold int
	// Base is how long the breaker is open at first, doubled each time that the trial
	// start after it fails; default 1 s.
	Base time.Duration
	// Max is the longest time it stays open; default 30 s.
	Max time.Duration
}

const defaultStopTimeout = 5 * time.Second

// withDefaults returns c with zero fields replaced, or what contradicts itself in it.
func (c Config[W]) withDefaults() (Config[W], error) {
	if err := c.validate(); err != nil {
		return c, err
	}
	positive(&c.StopTimeout, defaultStopTimeout)
	positive(&c.Backoff.Base, 100*time.Millisecond)
	positive(&c.Backoff.Max, 30*time.Second)
	positive(&c.Backoff.HalfLife, time.Second)
	positive(&c.Breaker.Base, time.Second)
	positive(&c.Breaker.Max, 30*time.Second)
	if c.Backoff.Tolerance == 0 {
		c.Backoff.Tolerance = 8
	}
	if c.Breaker.Threshold == 0 {
		c.Breaker.Threshold = 3
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}

func positive(d *time.Duration, otherwise time.Duration) {
	if *d == 0 {
		*d = otherwise
	}
}

func (c Config[W]) validate() error {
	switch {
	case c.Start == nil:
		return bad("a start function is missing")
	case c.Max < 1:
		return bad("the pool needs at least one worker, but its maximum is %d", c.Max)
	case c.Min < 0 || c.Min > c.Max:
		return bad("the minimum of workers is %d; it must lie between 0 and the maximum, %d", c.Min, c.Max)
	case c.Slots < 1:
		return bad("a worker needs at least one slot, not %d", c.Slots)
	case c.Overflow < 0:
		return bad("the number of overflow workers is negative: %d", c.Overflow)
	case c.Queue < 0:
		return bad("the length of the queue is negative: %d", c.Queue)
	case c.Queue == 0 && (c.Lazy || c.Min < c.Max || c.Overflow > 0):
		return bad("a pool that starts workers on demand needs a queue for the callers that wait for them")
	case c.Recycle.Requests < 0 || c.Recycle.Memory < 0:
		return bad("a limit after which workers are recycled is negative")
	case c.Recycle.Memory > 0 && c.Memory == nil:
		return bad("workers cannot be recycled by memory, since there is nothing that tells how much they use")
	case c.Backoff.Tolerance < 0 || c.Breaker.Threshold < 0:
		return bad("a tolerance or threshold is negative")
	}
	for name, d := range map[string]time.Duration{
		"the time after which the pool grows":   c.GrowAfter,
		"the idle timeout":                      c.IdleTimeout,
		"the age at which workers are recycled": c.Recycle.Age,
		"the idle time of recycled workers":     c.Recycle.Idle,
		"the stop timeout":                      c.StopTimeout,
		"the backoff's base":                    c.Backoff.Base,
		"the backoff's maximum":                 c.Backoff.Max,
		"the backoff's half-life":               c.Backoff.HalfLife,
		"the breaker's base":                    c.Breaker.Base,
		"the breaker's maximum":                 c.Breaker.Max,
	} {
		if d < 0 {
			return bad("%s is negative: %v", name, d)
		}
	}
	return nil
}

func bad(format string, args ...any) error {
	return status.New(status.InvalidArgument, "open", format, args...)
}
