// Package pool leases slots on workers. It decides which worker serves whom, how long
// callers queue, when workers are started, replaced and stopped. It knows neither what a
// worker is nor how one is reached.
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/status"
)

// Pool leases slots on workers of type W. Make one with [New]. All methods may be called
// concurrently.
//
// A seat is a place for one worker; seats 0 to Max-1 are regular, the others overflow. A
// worker takes part as a member, which goes only forward through
//
//	ready → draining → stopping → gone
//
// and may skip any of them. Only a ready member sits in a seat and is leased; while it is
// being replaced (a new generation, recycling), its seat starts the successor first. A
// draining member serves, besides its leases, the callers that were waiting for it alone.
//
// Invariants, true whenever mu is free; check verifies them:
//
//  1. Each ready member sits in its own seat, and each seat that holds one is wanted.
//  2. free is the sum of the unused slots of ready members; no member has more leases
//     than slots.
//  3. leased is the sum of the leases of all members, gone ones included.
//  4. No caller queues whom a ready, living member with a free slot could serve.
//  5. A draining member has leases; without any it is stopping.
//  6. alive counts the starts in flight and the members that are not gone.
//  7. While running and woken, at least Min regular seats are wanted.
//  8. When closing, no member is ready and nobody queues.
//
// No foreign code runs with mu held, except a Worker's Done.
type Pool[W Worker] struct {
	cfg  Config[W] // immutable, with defaults
	life lifecycle.Life

	group     *lifecycle.Group // the clock, the events, the measuring, one goroutine for each worker
	startCtx  context.Context  // ends when no start is wanted any more
	endStarts context.CancelCauseFunc
	killCtx   context.Context // ends when no drain is waited for any more
	kill      context.CancelCauseFunc

	wake     chan struct{} // tells the clock that wakeAt moved forward; one is enough
	eventful chan struct{} // tells the event goroutine that events is not empty
	// measurable tells the measuring goroutine that toMeasure is not empty.
	measurable chan struct{}
	emptied    chan struct{} // closed when closing and alive is 0
	failed     chan error    // takes the first start failure while Start waits

	mu         sync.Mutex // guards all below
	phase      phase
	woken      bool // false while a lazy pool was never asked for anything
	generation uint64
	seats      []*seat[W]
	ready      []*member[W]
	leaving    map[*member[W]]struct{} // draining, stopping, or gone with leases
	starting   int                     // starts in flight
	alive      int
	wanted     int // regular seats that are wanted
	free       int
	leased     int
	queue      waiters[W] // callers that any worker may serve
	queued     int        // all callers that wait, pinned ones included
	breaker    breaker
	everReady  bool
	lastError  error // why the last start failed or the last worker died

	wakeAt    time.Time // when settle must run next; zero for never
	armedAt   time.Time // when the clock looks next; zero for never
	readiness chan struct{}
	idleness  chan struct{}
	resets    []reset
	events    []Event
	toMeasure []*member[W]
	hold      time.Duration // moving average of how long leases are held
	stamps    uint64        // orders members by last use
	arrivals  uint64        // orders waiters
	ids       uint64        // names workers
	counters  Counters
}

// phase is the pool's own state as Acquire sees it.
type phase uint8

const (
	unstarted phase = iota
	running
	closing
)

// New returns a pool that runs nothing yet. Errors: invalid_argument for sizes or times
// that contradict each other.
func New[W Worker](cfg Config[W]) (*Pool[W], error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	p := &Pool[W]{
		cfg:        cfg,
		life:       lifecycle.Life{Name: "the pool"},
		wake:       make(chan struct{}, 1),
		eventful:   make(chan struct{}, 1),
		measurable: make(chan struct{}, 1),
		emptied:    make(chan struct{}),
		failed:     make(chan error, 1),
		generation: 1,
		leaving:    make(map[*member[W]]struct{}),
	}
	for i := range cfg.Max + cfg.Overflow {
		p.seats = append(p.seats, &seat[W]{index: i, overflow: i >= cfg.Max})
	}
	return p, nil
}

// Start starts the workers and returns when Min of them are ready, or at once when the
// pool is Lazy. When one of them fails to start, it stops all and returns that worker's
// error at once. Other errors: canceled or deadline_exceeded when ctx ends first, closed
// when the pool was stopped.
func (p *Pool[W]) Start(ctx context.Context) error {
	return p.life.Start(ctx, func(ctx context.Context) error {
		base := context.WithoutCancel(ctx)
		p.group = lifecycle.NewGroup(base)
		p.startCtx, p.endStarts = context.WithCancelCause(base)
		p.killCtx, p.kill = context.WithCancelCause(base)
		p.group.Go(p.clock)
		p.group.Go(p.tell)
		if p.cfg.Recycle.Memory > 0 {
			p.group.Go(p.measure)
		}

		p.mu.Lock()
		p.phase = running
		if !p.cfg.Lazy {
			p.awaken()
		}
		p.settle(time.Now())
		p.mu.Unlock()

		if err := p.opened(ctx); err != nil {
			p.kill(err)
			_ = p.shutdown(p.killCtx) // the reason of the failure is what the caller needs
			return err
		}
		return nil
	})
}

// opened waits until the first workers are ready or one has failed.
func (p *Pool[W]) opened(ctx context.Context) error {
	if p.cfg.Lazy {
		return nil
	}
	p.mu.Lock()
	ready := p.whenReady()
	p.mu.Unlock()
	select {
	case <-ready:
		return nil
	case err := <-p.failed:
		return err
	case <-ctx.Done():
		if cause := context.Cause(ctx); errors.Is(cause, status.ErrClosed) {
			return cause
		}
		return status.FromContext(ctx, "open", "the workers were still starting")
	}
}

// Stop ends the pool: callers that queue get closed, starts are given up, workers stop as
// soon as they hold no lease. When ctx ends, the others are killed. It returns when no
// worker is left. A second Stop is a no-op, a concurrent one waits and shares the result.
// Errors: deadline_exceeded, with their number, when leases were cut short.
func (p *Pool[W]) Stop(ctx context.Context) error {
	return p.life.Stop(ctx, p.shutdown)
}

func (p *Pool[W]) shutdown(drain context.Context) error {
	cause := status.New(status.Closed, "stop", "the pool is closed")
	p.mu.Lock()
	p.phase = closing
	p.endStarts(cause)
	p.event(Event{Kind: Closing, Size: len(p.ready)})
	for w := p.queue.head; w != nil; w = p.queue.head {
		p.refuse(w, cause)
		p.counters.Closed++
	}
	for len(p.ready) > 0 {
		p.drain(p.ready[0], "the pool closes")
	}
	for m := range p.leaving {
		for w := m.pinned.head; w != nil; w = m.pinned.head {
			p.refuse(w, cause)
			p.counters.Closed++
		}
	}
	p.notify()
	p.mu.Unlock()

	cut := 0
	select {
	case <-p.emptied:
	case <-drain.Done():
		p.kill(context.Cause(drain))
		p.mu.Lock()
		for m := range p.leaving {
			if m.state == draining {
				cut += m.inUse
				p.retire(m)
			}
		}
		p.counters.Cut += uint64(cut)
		p.mu.Unlock()
		<-p.emptied
	}
	p.kill(cause)
	p.group.Cancel(cause)
	p.group.Wait()
	if cut > 0 {
		return status.New(status.DeadlineExceeded, "stop", "%d leases were cut short", cut)
	}
	return nil
}

// Ready returns when at least Min workers are ready. It starts a Lazy pool. Errors: closed;
// canceled or deadline_exceeded when ctx ends first, with the last failure of a start.
func (p *Pool[W]) Ready(ctx context.Context) error {
	p.mu.Lock()
	if p.phase == running && !p.woken {
		p.awaken()
		p.settle(time.Now())
	}
	ready := p.whenReady()
	p.mu.Unlock()
	return p.await(ctx, ready, "ready", func() string {
		text := fmt.Sprintf("%d of %d workers are ready", len(p.ready), p.cfg.Min)
		if p.lastError != nil {
			text += "; the last failure: " + p.lastError.Error()
		}
		return text
	})
}

// Idle returns when no lease is held and nobody queues. Errors: closed; canceled or
// deadline_exceeded when ctx ends first.
func (p *Pool[W]) Idle(ctx context.Context) error {
	p.mu.Lock()
	idle := p.whenIdle()
	p.mu.Unlock()
	return p.await(ctx, idle, "idle", func() string {
		return fmt.Sprintf("%d leases are held and %d callers queue", p.leased, p.queued)
	})
}

// await waits for an event. late describes the situation, with mu held, when ctx ends first.
func (p *Pool[W]) await(ctx context.Context, event <-chan struct{}, op string, late func() string) error {
	select {
	case <-event:
		return nil
	default:
	}
	select {
	case <-event:
		return nil
	case <-p.life.Stopped():
		return status.New(status.Closed, op, "the pool is closed")
	case <-ctx.Done():
		p.mu.Lock()
		defer p.mu.Unlock()
		return status.FromContext(ctx, op, late())
	}
}

// awaken wants the first workers. The caller holds mu.
func (p *Pool[W]) awaken() {
	p.woken = true
	for _, s := range p.seats[:p.cfg.Min] {
		p.want(s)
	}
}
