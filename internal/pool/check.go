package pool

import (
	"errors"
	"fmt"
)

// check verifies the invariants listed at Pool and returns all that are broken. It is for
// tests.
func (p *Pool[W]) check() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	claim := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}

	free, leased, pinned, alive, wanted, starting := 0, 0, 0, 0, 0, 0
	for i, m := range p.ready {
		claim(m.state == ready && m.index == i && m.seat.member == m, "%s is ready but not in its place", m.id)
		claim(m.inUse >= 0 && m.inUse <= p.cfg.Slots, "%s has %d leases on %d slots", m.id, m.inUse, p.cfg.Slots)
		free += p.cfg.Slots - m.inUse
		leased += m.inUse
		pinned += m.pinned.len
		alive++
		claim(m.pinned.head == nil || m.inUse == p.cfg.Slots || !m.lives(), "a caller waits for %s, which has a free slot", m.id)
	}
	for m := range p.leaving {
		leased += m.inUse
		pinned += m.pinned.len
		claim(m.pinned.len == 0 || (m.state == draining && m.inUse == p.cfg.Slots) || !m.lives(),
			"callers wait for %s, which leaves with %d leases", m.id, m.inUse)
		claim(m.state != ready, "%s leaves but is ready", m.id)
		claim(m.state != draining || m.inUse > 0, "%s drains without leases", m.id)
		claim(m.state != gone || m.inUse > 0, "%s is gone but not forgotten", m.id)
		if m.state != gone {
			alive++
		}
	}
	for _, s := range p.seats {
		claim(s.member == nil || (s.wanted && s.member.state == ready && s.member.seat == s), "seat %d holds a wrong member", s.index)
		claim(s.member != nil || s.wanted || !s.starting || p.phase != running, "seat %d is not wanted but starting", s.index)
		if s.wanted && !s.overflow {
			wanted++
		}
		if s.starting {
			starting++
		}
	}
	claim(free == p.free, "%d slots are free, %d counted", free, p.free)
	claim(leased == p.leased, "%d slots are leased, %d counted", leased, p.leased)
	claim(starting == p.starting, "%d starts are in flight, %d counted", starting, p.starting)
	claim(alive+starting == p.alive, "%d workers live or start, %d counted", alive+starting, p.alive)
	claim(wanted == p.wanted, "%d seats are wanted, %d counted", wanted, p.wanted)
	claim(p.queue.len+pinned == p.queued, "%d callers queue, %d counted", p.queue.len+pinned, p.queued)
	claim(p.queued <= p.cfg.Queue, "%d callers queue, the limit is %d", p.queued, p.cfg.Queue)
	claim(p.phase != running || !p.woken || p.wanted >= p.cfg.Min, "%d seats are wanted, the minimum is %d", p.wanted, p.cfg.Min)
	claim(p.phase != closing || (len(p.ready) == 0 && p.queued == 0), "closing with %d ready and %d queued", len(p.ready), p.queued)
	n := 0
	for w := p.queue.head; w != nil; w = w.next {
		claim(p.choose(w.options) == nil, "a caller queues for whom there is a free slot")
		n++
	}
	claim(n == p.queue.len, "the queue holds %d callers, %d counted", n, p.queue.len)
	return errors.Join(errs...)
}
