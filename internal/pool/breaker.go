package pool

import (
	"fmt"
	"time"
)

// BreakerState says whether the pool starts workers.
type BreakerState uint8

// The breaker's states.
const (
	// Closed means that workers are started as they are wanted.
	Closed BreakerState = iota
	// Open means that no worker is started until a time has passed.
	Open
	// HalfOpen means that one worker is started to see whether it works again.
	HalfOpen
)

// String returns the state's name in lower case.
func (s BreakerState) String() string {
	switch s {
	case Closed:
		return "closed"
	case Open:
		return "open"
	case HalfOpen:
		return "half_open"
	default:
		return fmt.Sprintf("breaker_%d", uint8(s))
	}
}

// breaker keeps a pool from burning its host's time with starts that all fail.
type breaker struct {
	state    BreakerState
	failures int       // in a row
	openings int       // in a row
	until    time.Time // open at least until then
}

// refuses reports whether no start may be tried yet.
func (b *breaker) refuses(now time.Time) bool { return b.state == Open && b.until.After(now) }

// countFailure takes notice of a failed start or an early death, and opens the breaker if
// it was one too many. The caller holds mu.
func (p *Pool[W]) countFailure(now time.Time) {
	b := &p.breaker
	for _, m := range p.ready {
		if m.proved(now, p.cfg.Backoff.HalfLife) && m.lives() {
			p.closeBreaker() // one seat's trouble, not the pool's: its own backoff is enough
			b.failures = 0
			return
		}
	}
	b.failures++
	switch {
	case b.state == Open:
		return // a start from before the opening
	case b.state == HalfOpen:
	case !p.everReady:
	case b.failures < p.cfg.Breaker.Threshold:
		return
	}
	wait := p.cfg.Breaker.Max
	if b.openings < 32 { // beyond, the shift would overflow
		wait = min(wait, p.cfg.Breaker.Base<<b.openings)
	}
	b.state = Open
	b.openings++
	b.until = now.Add(wait)
	p.counters.BreakerOpenings++
	p.event(Event{Kind: BreakerOpened, Err: p.lastError, Delay: wait})
}

// closeBreaker lets workers be started as they are wanted. The caller holds mu.
func (p *Pool[W]) closeBreaker() {
	if p.breaker.state == Closed {
		return
	}
	// Early deaths after this start count again from zero, but a breaker that reopens
	// stays open for longer than it was: openings is forgotten by a worker that serves.
	p.breaker.state = Closed
	p.breaker.failures = 0
	p.event(Event{Kind: BreakerClosed, Size: len(p.ready)})
}

// giveUp refuses all who queue while the breaker is open and nobody could serve them. The
// caller holds mu.
func (p *Pool[W]) giveUp(now time.Time) {
	if p.queued == 0 || len(p.ready) > 0 || !p.breaker.refuses(now) {
		return
	}
	err := p.unavailable(now)
	for w := p.queue.head; w != nil; w = p.queue.head {
		p.refuse(w, err)
		p.counters.Unavailable++
	}
}
