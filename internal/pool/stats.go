package pool

import (
	"slices"
	"time"
)

// Stats is a consistent picture of a pool at one moment. It shares nothing with the pool.
type Stats struct {
	// Min, Max, Slots, Overflow and Queue are the configured sizes.
	Min, Max, Slots, Overflow, Queue int
	// Generation counts the resets, from 1.
	Generation uint64
	// Closed is true once Stop was called.
	Closed bool
	// Size is the number of regular workers that the pool wants to have now.
	Size int
	// Starting, Ready, Draining and Stopping count workers by what they do.
	Starting, Ready, Draining, Stopping int
	// Leased and Free count slots: held by callers, and free on ready workers.
	Leased, Free int
	// Queued is the number of callers that wait.
	Queued int
	// Breaker tells whether workers are started; if it is open, BreakerUntil tells for how
	// long it stays so.
	Breaker      BreakerState
	BreakerUntil time.Time
	// LastError is why the last start failed or the last worker died; nil if none ever did.
	LastError error
	// Workers lists the workers that live, by seat.
	Workers []WorkerStats
	// Counters counts what has happened since the pool was made.
	Counters Counters
}

// WorkerStats is one worker's part of Stats.
type WorkerStats struct {
	ID         string
	Seat       int
	Generation uint64
	// State is "ready", "draining" or "stopping".
	State string
	// InUse is the number of its slots that are leased.
	InUse int
	// Served is the number of leases that ended while it lived.
	Served uint64
	// Since is when it became ready.
	Since time.Time
	// Memory is how many bytes it used when it was looked at last, which only a pool that
	// recycles by memory does; 0 if it never was.
	Memory int64
	// Failures is the decaying count of failures in its seat before it.
	Failures float64
}

// Counters counts what has happened since the pool was made.
type Counters struct {
	// Leases counts slots given out.
	Leases uint64
	// Overloaded, Unavailable, Expired and Closed count callers that got none: the queue
	// was full, no worker could be started, their context ended, the pool was stopped.
	Overloaded, Unavailable, Expired, Closed uint64
	// Cut counts leases whose worker was killed by Stop.
	Cut uint64
	// Started and StartFailures count starts and those that failed.
	Started, StartFailures uint64
	// Lost and Stopped count workers that ended: by themselves, and as they were asked to.
	Lost, Stopped uint64
	// Grown and Shrunk count seats added for callers that waited, and given up as idle.
	Grown, Shrunk uint64
	// Recycled counts workers that were replaced because they had served long enough.
	Recycled uint64
	// Resets and BreakerOpenings count those.
	Resets, BreakerOpenings uint64
	// EventsDropped counts events that were forgotten because nobody took them.
	EventsDropped uint64
}

// Stats returns a picture of the pool. It may be called at any time, also before Start and
// after Stop.
func (p *Pool[W]) Stats() Stats {
	p.mu.Lock()
	defer p.mu.Unlock()
	s := Stats{
		Min: p.cfg.Min, Max: p.cfg.Max, Slots: p.cfg.Slots, Overflow: p.cfg.Overflow, Queue: p.cfg.Queue,
		Generation: p.generation,
		Closed:     p.phase == closing,
		Size:       p.wanted,
		Starting:   p.starting,
		Ready:      len(p.ready),
		Leased:     p.leased,
		Free:       p.free,
		Queued:     p.queued,
		Breaker:    p.breaker.state,
		LastError:  p.lastError,
		Counters:   p.counters,
	}
	if p.breaker.state == Open {
		s.BreakerUntil = p.breaker.until
	}
	for _, m := range p.ready {
		s.Workers = append(s.Workers, m.stats())
	}
	for m := range p.leaving {
		switch m.state {
		case draining:
			s.Draining++
		case stopping:
			s.Stopping++
		case ready, gone:
			continue
		}
		s.Workers = append(s.Workers, m.stats())
	}
	slices.SortFunc(s.Workers, func(a, b WorkerStats) int {
		if a.Seat != b.Seat {
			return a.Seat - b.Seat
		}
		return a.Since.Compare(b.Since)
	})
	return s
}

func (m *member[W]) stats() WorkerStats {
	return WorkerStats{
		ID: m.id, Seat: m.seat.index, Generation: m.generation, State: m.state.String(),
		InUse: m.inUse, Served: m.served, Since: m.readyAt, Memory: m.memory, Failures: m.seat.failures,
	}
}
