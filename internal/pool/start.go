package pool

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// startIn starts a worker in a seat, unless backoff or breaker forbid it; then it arranges
// for another look. The caller holds mu.
func (p *Pool[W]) startIn(s *seat[W], now time.Time) bool {
	trial := false
	if p.breaker.state != Closed {
		if p.breaker.refuses(now) {
			p.wakeBy(p.breaker.until)
			return false
		}
		if p.starting > 0 { // one trial at a time; its end is followed by settle
			return false
		}
		trial = true
	}
	if !trial && s.notBefore.After(now) {
		p.wakeBy(s.notBefore)
		return false
	}
	if trial && p.breaker.state == Open {
		p.breaker.state = HalfOpen
		p.event(Event{Kind: BreakerHalfOpened, Seat: s.index, Err: p.lastError})
	}
	p.ids++
	info := StartInfo{ID: fmt.Sprintf("w%d", p.ids), Seat: s.index, Generation: p.generation}
	s.starting = true
	s.startGeneration = p.generation
	p.starting++
	p.alive++
	p.counters.Started++
	p.event(Event{Kind: Starting, Worker: info.ID, Seat: s.index, Generation: info.Generation})
	p.group.Go(func(context.Context) { p.live(s, info) })
	return true
}

// live is one worker's life in the pool: it is started, watched, stopped.
func (p *Pool[W]) live(s *seat[W], info StartInfo) {
	w, err := p.cfg.Start(p.startCtx, info)
	now := time.Now()
	p.mu.Lock()
	s.starting = false
	p.starting--
	if err != nil {
		p.alive--
		p.startFailed(s, info, err, now)
		p.settle(now)
		p.mu.Unlock()
		return
	}
	m := &member[W]{
		worker: w, id: info.ID, seat: s, generation: info.Generation,
		readyAt: now, idleSince: now, stop: make(chan struct{}),
	}
	if p.phase != running {
		m.state = stopping
		p.leaving[m] = struct{}{}
		close(m.stop)
	} else {
		p.join(s, m)
		p.closeBreaker()
		p.event(Event{Kind: Ready, Worker: m.id, Seat: s.index, Generation: m.generation, Size: len(p.ready)})
		p.settle(now)
	}
	p.mu.Unlock()

	select {
	case <-w.Done():
	case <-m.stop:
		ctx, cancel := context.WithTimeout(p.killCtx, p.cfg.StopTimeout)
		err = w.Stop(ctx)
		cancel()
	}
	if cause := w.Err(); cause != nil {
		err = cause
	}

	now = time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.end(m, err, now)
	p.settle(now)
}

// startFailed takes notice of a start that failed. The caller holds mu.
func (p *Pool[W]) startFailed(s *seat[W], info StartInfo, err error, now time.Time) {
	if p.phase != running {
		return // given up by Stop: not the worker's fault
	}
	p.counters.StartFailures++
	if _, ok := errors.AsType[*status.Error](err); !ok {
		err = status.Wrap(status.Unavailable, "start", err, "worker %s could not be started: %v", info.ID, err)
	}
	p.lastError = err
	s.failures++
	delay := p.delay(s.failures)
	s.notBefore = now.Add(delay)
	p.event(Event{Kind: StartFailed, Worker: info.ID, Seat: s.index, Generation: info.Generation, Err: err, Delay: delay})
	if s.member == nil && (s.overflow || p.wanted > p.cfg.Min) {
		p.unwant(s) // it was started on demand and will be again
	}
	p.countFailure(now)
	select {
	case p.failed <- err:
	default: // only the first matters, and only while Start waits
	}
}

// died takes notice of a ready member's death and returns how long its seat waits. The
// caller holds mu.
func (p *Pool[W]) died(m *member[W], now time.Time) time.Duration {
	s := m.seat
	up := now.Sub(m.readyAt)
	s.failures = s.failures*math.Exp2(-up.Seconds()/p.cfg.Backoff.HalfLife.Seconds()) + 1
	if m.served > 0 {
		s.failures = 1
	}
	if s.overflow {
		p.unwant(s)
	}
	tolerated := float64(p.cfg.Backoff.Tolerance)
	if s.failures <= tolerated {
		return 0
	}
	delay := p.delay(s.failures - tolerated)
	s.notBefore = now.Add(delay)
	p.countFailure(now)
	return delay
}

// delay is the backoff after so many failures, at least 1.
func (p *Pool[W]) delay(failures float64) time.Duration {
	d := float64(p.cfg.Backoff.Base) * math.Exp2(failures-1)
	if d > float64(p.cfg.Backoff.Max) { // also when it overflows
		return p.cfg.Backoff.Max
	}
	return time.Duration(d)
}
