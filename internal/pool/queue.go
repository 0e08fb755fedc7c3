package pool

import "time"

// waiter is a caller that queues.
type waiter[W Worker] struct {
	options AcquireOptions
	since   time.Time
	arrival uint64
	result  chan outcome[W] // takes one outcome, never blocks

	list       *waiters[W] // nil when it does not queue any more
	next, prev *waiter[W]
}

// outcome is what a waiter gets: a lease or an error.
type outcome[W Worker] struct {
	lease *Lease[W]
	err   error
}

// waiters is a FIFO list; adding and removing take constant time.
type waiters[W Worker] struct {
	head, tail *waiter[W]
	len        int
}

func (l *waiters[W]) push(w *waiter[W]) {
	w.list, w.prev, w.next = l, l.tail, nil
	if l.tail == nil {
		l.head = w
	} else {
		l.tail.next = w
	}
	l.tail = w
	l.len++
}

func (l *waiters[W]) remove(w *waiter[W]) {
	if w.prev == nil {
		l.head = w.next
	} else {
		w.prev.next = w.next
	}
	if w.next == nil {
		l.tail = w.prev
	} else {
		w.next.prev = w.prev
	}
	w.list, w.prev, w.next = nil, nil, nil
	l.len--
}

// enqueue lets a caller wait: with the others, or for the member it is pinned to. The
// caller holds mu.
func (p *Pool[W]) enqueue(o AcquireOptions, pinned *member[W], now time.Time) *waiter[W] {
	p.arrivals++
	w := &waiter[W]{options: o, since: now, arrival: p.arrivals, result: make(chan outcome[W], 1)}
	if pinned != nil {
		pinned.pinned.push(w)
	} else {
		p.queue.push(w)
	}
	p.queued++
	return w
}

// leave takes a waiter out of its queue. The caller holds mu.
func (p *Pool[W]) leave(w *waiter[W]) {
	w.list.remove(w)
	p.queued--
}

// refuse ends a waiter's waiting with an error. The caller holds mu.
func (p *Pool[W]) refuse(w *waiter[W], err error) {
	p.leave(w)
	w.result <- outcome[W]{err: err}
}

// serve gives free slots to waiters in the order of their arrival, passing over those
// whom no free worker may serve. The caller holds mu.
func (p *Pool[W]) serve(now time.Time) {
	w := p.queue.head
	for p.free > 0 && p.queued > 0 {
		if m := p.pinnedBefore(w); m != nil {
			p.grant(m.pinned.head, m, now)
			continue
		}
		if w == nil {
			return
		}
		next := w.next
		m := p.choose(w.options)
		if m == nil && len(w.options.Not) == 0 {
			w = nil // nor could any other be served; but pinned ones are judged one by one
			continue
		}
		if m != nil {
			p.grant(w, m, now)
		}
		w = next
	}
}

// pinnedBefore returns a member with a free slot for which a caller waits that came
// before w, the earliest of all such callers. The caller holds mu.
func (p *Pool[W]) pinnedBefore(w *waiter[W]) *member[W] {
	if p.queued == p.queue.len {
		return nil
	}
	var best *member[W]
	for _, m := range p.ready {
		first := m.pinned.head
		if first == nil || m.inUse == p.cfg.Slots || (w != nil && w.arrival < first.arrival) || !m.lives() {
			continue
		}
		if best == nil || first.arrival < best.pinned.head.arrival {
			best = m
		}
	}
	return best
}

// grant ends a waiter's waiting with a lease. The caller holds mu.
func (p *Pool[W]) grant(w *waiter[W], m *member[W], now time.Time) {
	p.leave(w)
	w.result <- outcome[W]{lease: p.lease(m, now, now.Sub(w.since))}
}
