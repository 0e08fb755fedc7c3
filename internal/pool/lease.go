package pool

import "time"

// Lease is the right to one slot of a worker. It is made by [Pool.Acquire].
type Lease[W Worker] struct {
	pool     *Pool[W]
	member   *member[W]
	since    time.Time
	queued   time.Duration
	released bool // guarded by the pool's mu
}

// lease takes a slot. The caller holds mu and knows that there is one.
func (p *Pool[W]) lease(m *member[W], now time.Time, queued time.Duration) *Lease[W] {
	m.inUse++
	if m.state == ready { // a draining member's slots are not free
		p.free--
	}
	p.leased++
	p.counters.Leases++
	return &Lease[W]{pool: p, member: m, since: now, queued: queued}
}

// Worker returns the leased worker. It may be lost at any time.
func (l *Lease[W]) Worker() W { return l.member.worker }

// Queued returns how long the caller waited for the lease.
func (l *Lease[W]) Queued() time.Duration { return l.queued }

// Release gives the slot back. Further calls do nothing. It may be called from any
// goroutine, also after the pool was stopped.
func (l *Lease[W]) Release() {
	p, m := l.pool, l.member
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	if l.released {
		return
	}
	l.released = true
	m.inUse--
	p.leased--
	if held := now.Sub(l.since); p.hold == 0 {
		p.hold = held
	} else {
		p.hold += (held - p.hold) / 16
	}
	switch m.state {
	case ready:
		p.free++
		if m.lives() {
			m.served++
			p.breaker.openings = 0
		}
		p.stamps++
		m.stamp = p.stamps
		if m.inUse == 0 {
			m.idleSince = now
		}
		worn := p.wearLater(m, now)
		if p.queued == 0 && !m.seat.overflow && !worn {
			p.shrinkLater(m)
			p.notify()
			return
		}
		p.settle(now)
	case draining:
		if w := m.pinned.head; w != nil && m.lives() {
			p.grant(w, m, now)
		}
		if m.inUse == 0 {
			p.retire(m)
		}
		p.notify()
	case stopping:
		p.notify()
	case gone:
		if m.inUse == 0 {
			delete(p.leaving, m)
		}
		p.notify()
	}
}
