package pool

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// AcquireOptions narrows the choice of the worker. The zero value takes any.
type AcquireOptions struct {
	// Prefer names the worker to take if it has a free slot.
	Prefer string
	// Pin takes no other worker than Prefer, waiting for it if need be.
	Pin bool
	// Not names workers that must not be taken. The caller waits as long as there is no
	// other.
	Not []string
}

// Acquire leases a slot: on the preferred worker if possible, else on the least loaded one,
// among those on the most recently used. A caller for whom there is none queues, first come
// first served, until ctx ends. The lease is non-nil if and only if the error is nil; it
// must be released.
//
// Errors: overloaded at once when the queue is full, with a hint when to try again;
// unavailable when no worker can be started, with the reason; worker_lost when the pinned
// worker does not exist or not any more; canceled or deadline_exceeded when ctx ends first;
// closed.
func (p *Pool[W]) Acquire(ctx context.Context, o AcquireOptions) (*Lease[W], error) {
	if ctx.Err() != nil {
		return nil, status.FromContext(ctx, "acquire", "the call had ended before it began")
	}
	now := time.Now()
	p.mu.Lock()
	if p.phase != running {
		p.mu.Unlock()
		return nil, p.notRunning()
	}
	if m := p.choose(o); m != nil {
		l := p.lease(m, now, 0)
		p.mu.Unlock()
		return l, nil
	}
	w, err := p.wait(o, now)
	p.mu.Unlock()
	if err != nil {
		return nil, err
	}

	select {
	case got := <-w.result:
		return got.lease, got.err
	case <-ctx.Done():
	}
	p.mu.Lock()
	if w.list == nil { // served or refused at the same moment
		p.mu.Unlock()
		if got := <-w.result; got.lease != nil {
			got.lease.Release()
		}
		p.mu.Lock()
	} else {
		p.leave(w)
		p.settle(time.Now())
	}
	p.counters.Expired++
	err = p.expired(ctx, time.Since(w.since))
	p.mu.Unlock()
	return nil, err
}

// choose returns the member to lease, nil if none has a free slot. The caller holds mu.
func (p *Pool[W]) choose(o AcquireOptions) *member[W] {
	if p.free == 0 {
		return nil
	}
	var best *member[W]
	for _, m := range p.ready {
		if m.inUse == p.cfg.Slots {
			continue
		}
		if o.Prefer != "" && m.id == o.Prefer && m.lives() && !slices.Contains(o.Not, m.id) {
			return m
		}
		if o.Pin || (len(o.Not) > 0 && slices.Contains(o.Not, m.id)) {
			continue
		}
		if (best == nil || m.inUse < best.inUse || (m.inUse == best.inUse && m.stamp > best.stamp)) && m.lives() {
			best = m
		}
	}
	return best
}

// wait queues a caller, or says why it cannot. The caller holds mu.
func (p *Pool[W]) wait(o AcquireOptions, now time.Time) (*waiter[W], error) {
	var pinned *member[W]
	if o.Pin {
		i := slices.IndexFunc(p.ready, func(m *member[W]) bool { return m.id == o.Prefer })
		if i < 0 {
			return nil, errGone(o.Prefer)
		}
		pinned = p.ready[i]
	}
	if p.breaker.refuses(now) && len(p.ready) == 0 {
		p.counters.Unavailable++
		return nil, p.unavailable(now)
	}
	if p.queued >= p.cfg.Queue {
		p.counters.Overloaded++
		return nil, p.overloaded()
	}
	if !p.woken {
		p.awaken()
	}
	w := p.enqueue(o, pinned, now)
	p.settle(now)
	return w, nil
}

// notRunning says why nothing can be leased before Start or after Stop.
func (p *Pool[W]) notRunning() error {
	select {
	case <-p.life.Stopped():
	default:
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.phase == unstarted {
			return status.New(status.Unavailable, "acquire", "the pool was not started")
		}
	}
	return status.New(status.Closed, "acquire", "the pool is closed")
}

// overloaded makes the error for a full queue. The hint is the time in which the pool, at
// its present pace, serves all who queue. The caller holds mu.
func (p *Pool[W]) overloaded() error {
	hold := p.hold
	if hold == 0 {
		hold = 100 * time.Millisecond // nothing was measured yet: a quick LM call
	}
	slots := max(1, len(p.ready)) * p.cfg.Slots
	hint := hold * time.Duration(p.queued+1) / time.Duration(slots)
	err := status.New(status.Overloaded, "acquire",
		"%d callers queue already, which is the limit; %d leases are held by %d workers", p.queued, p.leased, len(p.ready))
	err.Retryable = true
	err.RetryAfter = min(max(hint, time.Millisecond), 30*time.Second)
	return err
}

// unavailable makes the error for an open breaker. The caller holds mu.
func (p *Pool[W]) unavailable(now time.Time) error {
	wait := max(p.breaker.until.Sub(now), time.Millisecond)
	err := status.Wrap(status.Unavailable, "acquire", p.lastError,
		"no worker can be started, the next try is in %v; the last failure: %v", wait.Round(time.Millisecond), p.lastError)
	err.Retryable = true
	err.RetryAfter = wait
	return err
}

// expired makes the error for a caller whose context ended in the queue. The caller holds mu.
func (p *Pool[W]) expired(ctx context.Context, waited time.Duration) error {
	text := fmt.Sprintf("waited %v for a free worker; %d are ready, %d are starting",
		waited.Round(time.Microsecond), len(p.ready), p.starting)
	if len(p.ready) == 0 && p.lastError != nil {
		text += "; the last failure: " + p.lastError.Error()
	}
	return status.FromContext(ctx, "acquire", text)
}

func errGone(id string) error {
	err := status.New(status.WorkerLost, "acquire", "worker %q does not serve any more", id)
	err.Worker = id
	return err
}
