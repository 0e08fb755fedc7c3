package dspex

import (
	linked "container/list"
	"context"
	"errors"
	"sync"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/status"
)

// affinities remembers which session belongs to which worker. It is bounded: a session
// that was not used for ttl is forgotten, when another one is used, so nothing runs while
// nothing is used.
type affinities struct {
	ttl time.Duration    // immutable, as are the next two
	max int              //
	now func() time.Time //

	// inserting is held while a session that remembers nothing begins to: the number of
	// such sessions in the store is bounded.
	inserting chan struct{}

	mu    sync.Mutex // guards all below, and every field of every affinity but turn
	byID  map[string]*affinity
	order map[SessionMode]*linked.List // of *affinity, the most recently used first
	stats SessionStats
}

// affinity is one session's.
type affinity struct {
	id   string      // immutable, as are the next two
	mode SessionMode //
	turn chan struct{}

	element *linked.Element // nil if it is not remembered
	used    time.Time
	calls   int // in flight; a session in use does not expire
	epochs  uint64
	bound   *binding // nil while no worker belongs to the session
}

// binding ties a session to one worker. For a hard session it lives as long as an epoch.
type binding struct {
	worker string // immutable, as is epoch
	epoch  uint64
	seen   int  // calls that the worker has seen, or may have
	told   bool // its loss was reported
}

func newAffinities(ttl time.Duration, limit int, now func() time.Time) *affinities {
	return &affinities{
		ttl: ttl, max: limit, now: now,
		inserting: make(chan struct{}, 1),
		byID:      make(map[string]*affinity),
		order:     map[SessionMode]*linked.List{Soft: linked.New(), Hard: linked.New()},
	}
}

// enter notes that a call of a session begins. It must be followed by leave.
func (r *affinities) enter(id string, mode SessionMode) (*affinity, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.sweep(now)
	a := r.byID[id]
	switch {
	case a == nil:
		a = &affinity{id: id, mode: mode, turn: make(chan struct{}, 1)}
		if err := r.insert(a, now); err != nil {
			return nil, err
		}
	case a.mode != mode:
		return nil, sessionFault("session %q is in use as a %s session; it cannot be a %s one as well", id, a.mode, mode)
	}
	a.calls++
	r.touch(a, now)
	return a, nil
}

// insert remembers a new affinity, if need be in the place of the soft session that was
// not used for the longest time: it merely loses a preference. The caller holds mu.
func (r *affinities) insert(a *affinity, now time.Time) error {
	if len(r.byID) >= r.max {
		if oldest := r.dispensable(now); oldest != nil {
			r.forget(oldest)
		} else if a.mode == Soft {
			return nil // it is served all the same, by any worker
		} else {
			r.stats.Refused++
			err := status.New(status.Overloaded, "session",
				"%d sessions have a worker, which is the limit (session.max)", len(r.byID))
			err.Retryable = true
			if oldest := back(r.order[Hard]); oldest != nil {
				err.RetryAfter = waitHint(oldest.used.Add(r.ttl), now)
			}
			return err
		}
	}
	r.byID[a.id] = a
	a.element = r.order[a.mode].PushFront(a)
	return nil
}

// dispensable returns the soft session that was not used for the longest time, nil if all
// that it looks at are in use. The caller holds mu.
func (r *affinities) dispensable(now time.Time) *affinity {
	const looks = 16 // a bound on the time that mu is held; the next call looks further
	for range looks {
		a := back(r.order[Soft])
		if a == nil || a.calls == 0 {
			return a
		}
		r.touch(a, now)
	}
	return nil
}

// leave notes that a call has ended.
func (r *affinities) leave(a *affinity) {
	r.mu.Lock()
	defer r.mu.Unlock()
	a.calls--
	r.touch(a, r.now())
}

// touch notes a use. The caller holds mu.
func (r *affinities) touch(a *affinity, now time.Time) {
	a.used = now
	if a.element != nil {
		r.order[a.mode].MoveToFront(a.element)
	}
}

// use notes that a session's memory was used.
func (r *affinities) use(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	r.sweep(now)
	if a := r.byID[id]; a != nil {
		r.touch(a, now)
	}
}

// sweep forgets what was not used for ttl. The caller holds mu.
func (r *affinities) sweep(now time.Time) {
	for _, order := range r.order {
		for a := back(order); a != nil && !now.Before(a.used.Add(r.ttl)); a = back(order) {
			if a.calls > 0 {
				r.touch(a, now)
				continue
			}
			r.forget(a)
		}
	}
}

// forget drops an affinity. The caller holds mu.
func (r *affinities) forget(a *affinity) {
	r.order[a.mode].Remove(a.element)
	a.element = nil
	delete(r.byID, a.id)
}

func back(order *linked.List) *affinity {
	if e := order.Back(); e != nil {
		return e.Value.(*affinity) //nolint:forcetypeassert // the lists hold nothing else
	}
	return nil
}

// drop forgets a session that was ended. Calls in flight go on under the affinity they
// entered.
func (r *affinities) drop(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.byID[id]; a != nil {
		r.forget(a)
	}
}

// place returns the binding to run under. While there is none, one call at a time, which
// gets nil, chooses the worker; the others wait for its choice. The caller calls settled
// when it has chosen or given up; it may do so twice.
func (r *affinities) place(ctx context.Context, a *affinity) (b *binding, settled func(), err error) {
	if b := r.current(a); b != nil {
		return b, func() {}, nil
	}
	select {
	case a.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, nil, status.FromContext(ctx, "run",
			"another call of the session was waiting for the worker that both would use")
	}
	settled = sync.OnceFunc(func() { <-a.turn })
	if b := r.current(a); b != nil {
		settled()
		return b, settled, nil
	}
	return nil, settled, nil
}

func (r *affinities) current(a *affinity) *binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	return a.bound
}

// bind notes that a call, which runs under b, is about to be sent to a worker, and returns
// the binding that it then runs under.
func (r *affinities) bind(a *affinity, b *binding, worker string) *binding {
	r.mu.Lock()
	defer r.mu.Unlock()
	if b == nil || b.worker != worker {
		if a.bound != nil && a.bound.worker != worker {
			r.stats.Moved++ // only a soft session, a pinned call is never elsewhere
		}
		b = &binding{worker: worker}
		if a.mode == Hard {
			a.epochs++
			b.epoch = a.epochs
		}
		a.bound = b
	}
	b.seen++
	return b
}

// lose notes that the worker of a hard session's binding is lost. It returns the error of
// the call that found out, nil if that call is to be made again, under the next binding:
// when its worker has seen nothing of it and the loss is told already, or nothing at all
// was lost. Sent says whether bind was told of the call.
func (r *affinities) lose(a *affinity, b *binding, sent bool, cause *Error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a.bound == b {
		a.bound = nil
	}
	if errors.Is(cause, backend.ErrUnseen) {
		if sent {
			b.seen--
		}
		if b.told || b.seen == 0 {
			return nil
		}
	}
	if b.told {
		return cause
	}
	b.told = true
	r.stats.Lost++
	lost := status.Wrap(status.SessionLost, "run", cause,
		"worker %s, which held what session %q kept in Python, is gone; its epoch %d is over: %v",
		b.worker, a.id, b.epoch, cause.Message)
	lost.Worker, lost.Epoch, lost.Retryable, lost.Python = b.worker, b.epoch, true, cause.Python
	return lost
}

func (r *affinities) epoch(id string) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(r.now())
	if a := r.byID[id]; a != nil {
		return a.epochs
	}
	return 0
}

// count changes the counters.
func (r *affinities) count(change func(*SessionStats)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change(&r.stats)
}

func (r *affinities) snapshot() SessionStats {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sweep(r.now())
	s := r.stats
	s.Placed = len(r.byID)
	return s
}
