package pool

import (
	"context"
	"time"
)

// settle makes the pool do what its state calls for: serve who queues, start who is
// wanted, stop who is not. It is called after every change and when wakeAt has come. The
// caller holds mu.
func (p *Pool[W]) settle(now time.Time) {
	if p.phase != running {
		p.notify()
		return
	}
	p.wakeAt = time.Time{}
	p.serve(now)
	p.dismiss()
	p.wear(now)
	p.roll(now)
	p.refill(now)
	p.grow(now)
	p.giveUp(now)
	p.shrink(now)
	p.notify()
}

// dismiss stops idle overflow workers once nobody queues. The caller holds mu.
func (p *Pool[W]) dismiss() {
	if p.cfg.Overflow == 0 || p.queue.len > 0 {
		return
	}
	for _, s := range p.seats[p.cfg.Max:] {
		if m := s.member; m != nil && m.inUse == 0 && m.pinned.len == 0 {
			p.drain(m, "nobody queues any more")
			p.unwant(s)
		}
	}
}

// refill starts a worker in each wanted seat that has none, as far as backoff and breaker
// allow. The caller holds mu.
func (p *Pool[W]) refill(now time.Time) {
	for _, s := range p.seats {
		if s.wanted && s.member == nil && !s.starting {
			p.startIn(s, now)
		}
	}
}

// grow wants more seats when callers have waited for GrowAfter, as many as those callers
// need beyond the starts in flight. The caller holds mu.
func (p *Pool[W]) grow(now time.Time) {
	if p.queue.len == 0 || p.spare() == nil {
		return
	}
	after := p.cfg.GrowAfter
	coming := 0 // slots that the starts in flight will add
	for _, s := range p.seats {
		if s.starting && s.member == nil {
			coming += p.cfg.Slots
		}
	}
	if len(p.ready) == 0 && coming == 0 {
		after = 0
	}
	overdue, limit := 0, p.cfg.Slots*len(p.seats)
	for w := p.queue.head; w != nil && overdue < limit; w = w.next {
		if due := w.since.Add(after); due.After(now) {
			p.wakeBy(due)
			break
		}
		overdue++
	}
	for _, s := range p.seats {
		if overdue <= coming {
			return
		}
		if s.wanted || s.starting {
			continue
		}
		p.want(s)
		if !p.startIn(s, now) {
			p.unwant(s) // wanted again when its time has come, if callers still wait then
			continue
		}
		p.counters.Grown++
		p.event(Event{Kind: Grown, Seat: s.index, Generation: p.generation, Size: p.wanted})
		coming += p.cfg.Slots
	}
}

// spare returns a seat that the pool can grow into, nil if there is none. The caller holds mu.
func (p *Pool[W]) spare() *seat[W] {
	for _, s := range p.seats {
		if !s.wanted && !s.starting {
			return s
		}
	}
	return nil
}

// shrink stops as many workers beyond Min as have been idle for IdleTimeout: the last
// grown first, of those that have nothing to do now, even if they were idle for less than
// those before them. Otherwise the worker that happened to be used last would stay, and the
// pool would end with other workers than it began with. The caller holds mu.
func (p *Pool[W]) shrink(now time.Time) {
	if p.cfg.IdleTimeout == 0 {
		return
	}
	surplus := -p.cfg.Min
	for _, s := range p.seats[:p.cfg.Max] {
		if s.member != nil {
			surplus++
		}
	}
	if surplus <= 0 {
		return
	}
	tooMany := 0
	for _, s := range p.seats[:p.cfg.Max] {
		if !s.idle() {
			continue
		}
		if due := s.member.idleSince.Add(p.cfg.IdleTimeout); due.After(now) {
			p.wakeBy(due)
		} else {
			tooMany++
		}
	}
	tooMany = min(tooMany, surplus)
	for i := p.cfg.Max - 1; i >= 0 && tooMany > 0; i-- {
		s := p.seats[i]
		if !s.idle() {
			continue
		}
		m := s.member
		p.drain(m, "it was idle")
		p.unwant(s)
		tooMany--
		p.counters.Shrunk++
		p.event(Event{Kind: Shrunk, Worker: m.id, Seat: s.index, Generation: m.generation, Size: p.wanted})
	}
}

// shrinkLater has settle run when m, just idle, may be too many. The caller holds mu.
func (p *Pool[W]) shrinkLater(m *member[W]) {
	if p.cfg.IdleTimeout > 0 && m.inUse == 0 && p.wanted > p.cfg.Min {
		p.wakeBy(m.idleSince.Add(p.cfg.IdleTimeout))
	}
}

// wakeBy has settle run at t at the latest. The caller holds mu.
func (p *Pool[W]) wakeBy(t time.Time) {
	if !p.wakeAt.IsZero() && !t.Before(p.wakeAt) {
		return
	}
	p.wakeAt = t
	if !p.armedAt.IsZero() && !t.Before(p.armedAt) {
		return // the clock looks early enough
	}
	select {
	case p.wake <- struct{}{}:
	default: // the clock has not looked yet
	}
}

// clock runs settle at wakeAt. It is the pool's only timer.
func (p *Pool[W]) clock(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		case <-timer.C:
		}
		p.mu.Lock()
		now := time.Now()
		if !p.wakeAt.IsZero() && !p.wakeAt.After(now) {
			p.settle(now)
		}
		at := p.wakeAt
		p.armedAt = at
		p.mu.Unlock()
		if at.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(at.Sub(now))
		}
	}
}

// notify closes the channels of those whose event has happened. The caller holds mu.
func (p *Pool[W]) notify() {
	if p.readiness != nil && p.isReady() {
		close(p.readiness)
		p.readiness = nil
	}
	if p.idleness != nil && p.isIdle() {
		close(p.idleness)
		p.idleness = nil
	}
	if len(p.resets) > 0 {
		p.finishResets()
	}
	if p.phase == closing && p.alive == 0 {
		select {
		case <-p.emptied:
		default:
			close(p.emptied)
		}
	}
}

func (p *Pool[W]) isReady() bool { return p.phase == running && len(p.ready) >= p.cfg.Min }

func (p *Pool[W]) isIdle() bool { return p.phase == running && p.leased == 0 && p.queued == 0 }

// whenReady returns a channel that is closed when the pool is ready. The caller holds mu.
func (p *Pool[W]) whenReady() <-chan struct{} { return signal(&p.readiness, p.isReady()) }

// whenIdle returns a channel that is closed when the pool is idle. The caller holds mu.
func (p *Pool[W]) whenIdle() <-chan struct{} { return signal(&p.idleness, p.isIdle()) }

// signal returns the channel that is closed when an event happens, a closed one if it has.
func signal(ch *chan struct{}, now bool) <-chan struct{} {
	if now {
		done := make(chan struct{})
		close(done)
		return done
	}
	if *ch == nil {
		*ch = make(chan struct{})
	}
	return *ch
}
