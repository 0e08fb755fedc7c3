package pool

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// Recycle says when a worker has served long enough and is replaced by a fresh one. The
// successor is ready before the old worker gets no more leases, and the old one finishes
// those it has: no caller notices. As long as no successor can be started, the old worker
// goes on. At most one seat is being recycled at a time. Zero fields never recycle.
type Recycle struct {
	// Requests is after how many served leases.
	Requests int
	// Age is how long after the worker became ready, for each worker less a random part of
	// up to a tenth, so that workers that were started together do not end together.
	Age time.Duration
	// Idle is how long a worker that has served may have nothing to do. One that never
	// served is as good as a fresh one and stays.
	Idle time.Duration
	// Memory is how many bytes the worker may use, as Config.Memory tells them.
	Memory int64
}

const (
	// jitter is the part of its age limit by which a worker may be recycled early.
	jitter = 0.1
	// measureEvery is the shortest time between two looks at one worker's memory: a look
	// at 60 MB takes the kernel about a millisecond, during which the worker may have to
	// wait for its page tables.
	measureEvery = time.Second
)

// lifespan returns when a member that is ready now is too old, zero for never.
func (p *Pool[W]) lifespan(now time.Time) time.Time {
	age := p.cfg.Recycle.Age
	if age == 0 {
		return time.Time{}
	}
	return now.Add(age - time.Duration(rand.Float64()*jitter*float64(age))) //nolint:gosec // nobody gains by guessing it
}

// wear finds the members that have served long enough. The caller holds mu.
func (p *Pool[W]) wear(now time.Time) {
	limits := p.cfg.Recycle
	if limits == (Recycle{}) {
		return
	}
	for _, m := range p.ready {
		if m.worn != "" {
			continue
		}
		idle := m.idleSince.Add(limits.Idle)
		idles := limits.Idle > 0 && m.served > 0 && m.inUse == 0 && m.pinned.len == 0
		switch {
		case limits.Requests > 0 && m.served >= uint64(limits.Requests):
			m.worn = fmt.Sprintf("it has served %d requests", m.served)
		case limits.Memory > 0 && m.memory > limits.Memory:
			m.worn = fmt.Sprintf("it uses %d bytes of memory", m.memory)
		case limits.Age > 0 && !m.expires.After(now):
			m.worn = fmt.Sprintf("it is %v old", now.Sub(m.readyAt).Round(time.Millisecond))
		case idles && !idle.After(now):
			m.worn = fmt.Sprintf("it was idle for %v after its work", now.Sub(m.idleSince).Round(time.Millisecond))
		}
		if m.worn != "" {
			continue
		}
		if limits.Age > 0 {
			p.wakeBy(m.expires)
		}
		if idles {
			p.wakeBy(idle)
		}
		if m.unmeasured {
			p.look(m, now)
		}
	}
}

// wearLater reports whether the lease that m just lost may have been one too many; if not
// it arranges for what its end calls for in time. It is settle's short way: most leases end
// without any of it. The caller holds mu.
func (p *Pool[W]) wearLater(m *member[W], now time.Time) bool {
	limits := p.cfg.Recycle
	if m.worn != "" {
		return false
	}
	if limits.Requests > 0 && m.served >= uint64(limits.Requests) {
		return true
	}
	if limits.Idle > 0 && m.inUse == 0 {
		p.wakeBy(m.idleSince.Add(limits.Idle))
	}
	if limits.Memory > 0 && !m.unmeasured {
		m.unmeasured = true
		p.look(m, now)
	}
	return false
}

// look has a member measured that served since it was measured last, or arranges for it
// if that was a moment ago. The caller holds mu.
func (p *Pool[W]) look(m *member[W], now time.Time) {
	if due := m.measuredAt.Add(measureEvery); due.After(now) {
		p.wakeBy(due)
		return
	}
	m.unmeasured = false
	m.measuredAt = now
	p.toMeasure = append(p.toMeasure, m)
	select {
	case p.measurable <- struct{}{}:
	default: // one signal is enough
	}
}

// measure asks for the memory of the members that look names. A worker that cannot be
// measured is not recycled for its memory; it most likely just ended.
func (p *Pool[W]) measure(ctx context.Context) {
	for {
		select {
		case <-p.measurable:
		case <-ctx.Done():
			return
		}
		p.mu.Lock()
		members := p.toMeasure
		p.toMeasure = nil
		p.mu.Unlock()
		for _, m := range members {
			used, err := p.cfg.Memory(m.worker)
			if err != nil {
				p.cfg.Logger.DebugContext(ctx, "pool: a worker's memory is not known", "worker", m.id, "error", err)
				continue
			}
			p.mu.Lock()
			m.memory = used
			if used > p.cfg.Recycle.Memory && m.state == ready {
				p.settle(time.Now())
			}
			p.mu.Unlock()
		}
	}
}
