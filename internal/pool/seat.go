package pool

import "time"

// seat is a place for one worker. It remembers how its workers fared.
type seat[W Worker] struct {
	index    int  // immutable
	overflow bool // immutable
	wanted   bool // a worker belongs here: if there is none, one is started
	starting bool // a start is in flight
	// startGeneration is the generation of the start in flight.
	startGeneration uint64
	member          *member[W] // ready, or nil
	failures        float64    // decays while a worker is up
	notBefore       time.Time  // no start before
}

// memberState says what a member still does; see Pool.
type memberState uint8

const (
	ready    memberState = iota
	draining             // holds leases, gets no new ones
	stopping             // being stopped
	gone                 // its worker is done
)

// String returns the state's name in lower case.
func (s memberState) String() string {
	return [...]string{ready: "ready", draining: "draining", stopping: "stopping", gone: "gone"}[s]
}

// member is one worker in the pool, from ready to gone.
type member[W Worker] struct {
	worker     W             // immutable, as are the next four
	id         string        //
	seat       *seat[W]      //
	generation uint64        //
	readyAt    time.Time     //
	stop       chan struct{} // closed to have it stopped

	state     memberState
	index     int // in Pool.ready while ready
	inUse     int
	served    uint64     // leases released while it lived
	stamp     uint64     // higher for the more recently used
	idleSince time.Time  // valid while inUse is 0
	pinned    waiters[W] // callers that only this worker may serve

	worn       string    // why it is to be replaced; empty if it is not
	expires    time.Time // when it is too old; zero for never
	memory     int64     // bytes at the last look
	measuredAt time.Time // when it was looked at last
	unmeasured bool      // has served since
}

// idle reports whether the seat's worker has nothing to do and is not being replaced.
func (s *seat[W]) idle() bool {
	m := s.member
	return m != nil && m.inUse == 0 && m.pinned.len == 0 && !s.starting
}

// lives reports whether the worker has not yet said that it is done.
func (m *member[W]) lives() bool {
	select {
	case <-m.worker.Done():
		return false
	default:
		return true
	}
}

// proved reports whether the worker shows that workers can be started and do serve.
func (m *member[W]) proved(now time.Time, halfLife time.Duration) bool {
	return m.served > 0 || now.Sub(m.readyAt) >= halfLife
}

// want makes a seat wanted. The caller holds mu.
func (p *Pool[W]) want(s *seat[W]) {
	if s.wanted {
		return
	}
	s.wanted = true
	if !s.overflow {
		p.wanted++
	}
}

// unwant gives a seat up. The caller holds mu and has removed its member.
func (p *Pool[W]) unwant(s *seat[W]) {
	if !s.wanted {
		return
	}
	s.wanted = false
	if !s.overflow {
		p.wanted--
	}
}

// join makes a started worker a member. Its predecessor, if it still serves, is drained.
// The caller holds mu.
func (p *Pool[W]) join(s *seat[W], m *member[W]) {
	if old := s.member; old != nil {
		p.replace(old)
	}
	s.member = m
	m.expires = p.lifespan(m.readyAt)
	p.want(s)
	m.index = len(p.ready)
	p.ready = append(p.ready, m)
	p.free += p.cfg.Slots
	p.everReady = true
	p.stamps++
	m.stamp = p.stamps
}

// remove takes a ready member out of rotation. The caller holds mu and decides what
// becomes of it.
func (p *Pool[W]) remove(m *member[W]) {
	last := len(p.ready) - 1
	p.ready[m.index] = p.ready[last]
	p.ready[m.index].index = m.index
	p.ready[last] = nil
	p.ready = p.ready[:last]
	p.free -= p.cfg.Slots - m.inUse
	m.seat.member = nil
	p.leaving[m] = struct{}{}
}

// drain lets a ready member finish its leases and serve those who wait for it alone, then
// stops it. The caller holds mu.
func (p *Pool[W]) drain(m *member[W], why string) {
	p.remove(m)
	m.state = draining
	p.event(Event{Kind: Draining, Worker: m.id, Seat: m.seat.index, Generation: m.generation, Reason: why})
	if m.inUse == 0 {
		p.retire(m)
	}
}

// replace drains a stale member. The caller holds mu.
func (p *Pool[W]) replace(m *member[W]) {
	if m.worn == "" {
		p.drain(m, "an older generation")
		return
	}
	p.counters.Recycled++
	p.drain(m, m.worn)
}

// retire has a drained member stopped. The caller holds mu.
func (p *Pool[W]) retire(m *member[W]) {
	m.state = stopping
	close(m.stop)
}

// end takes notice that a member's worker is done, expected or not, and why. The caller
// holds mu.
func (p *Pool[W]) end(m *member[W], err error, now time.Time) {
	before := m.state
	if before == ready {
		p.remove(m)
	}
	for w := m.pinned.head; w != nil; w = m.pinned.head {
		p.refuse(w, errGone(m.id))
	}
	m.state = gone
	p.alive--
	if m.inUse == 0 {
		delete(p.leaving, m)
	}
	if before == stopping {
		p.counters.Stopped++
		p.event(Event{Kind: Stopped, Worker: m.id, Seat: m.seat.index, Generation: m.generation, Err: err})
		return
	}
	p.counters.Lost++
	p.lastError = err
	delay := time.Duration(0)
	if before == ready {
		delay = p.died(m, now)
	}
	p.event(Event{Kind: Lost, Worker: m.id, Seat: m.seat.index, Generation: m.generation, Err: err, Delay: delay})
}
