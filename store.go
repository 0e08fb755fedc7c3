package dspex

import (
	"container/heap"
	"context"
	"encoding/json"
	"slices"
	"time"
)

// Store keeps what sessions remember. A Runtime without one keeps it in memory;
// store/sqlite keeps it in a file, so that sessions survive the process. Limits, expiry
// and errors are the [Session]'s business: a Store only keeps records, and its own errors
// reach callers as [CodeUnavailable].
//
// All methods may be called concurrently. When ctx ends they return soon, with nothing
// half done. A Store is not closed by the Runtime.
type Store interface {
	// Read returns a copy of the record of a session, nil if there is none.
	Read(ctx context.Context, id string) (*SessionRecord, error)
	// Write calls change with a copy of the record of a session, a zero one if there is
	// none, and keeps what change leaves, atomically: Writes of one session never
	// overlap. If change fails, nothing is kept and its error is returned as it is.
	// Change is called at most once.
	Write(ctx context.Context, id string, change func(*SessionRecord) error) error
	// Renew sets when a record expires, if there is one that has not expired at now; it
	// reports whether there was. It never brings the moment nearer.
	Renew(ctx context.Context, id string, now, expires time.Time) (bool, error)
	// Delete forgets a record and reports whether there was one.
	Delete(ctx context.Context, id string) (bool, error)
	// Expire forgets every record that has expired at now and returns how many.
	Expire(ctx context.Context, now time.Time) (int, error)
	// Len returns how many records there are.
	Len(ctx context.Context) (int, error)
}

// SessionRecord is what one session remembers.
type SessionRecord struct {
	// Values holds JSON values by key.
	Values map[string]json.RawMessage
	// History holds the turns of a conversation, JSON objects, the oldest first.
	History []json.RawMessage
	// Expires is when the record is to be forgotten: it has expired at that moment.
	Expires time.Time
}

// NewMemoryStore returns a Store that keeps records in memory: what a Runtime uses that
// is given none. It is for sharing sessions between Runtimes of one process.
func NewMemoryStore() Store {
	return &memoryStore{turn: make(chan struct{}, 1), byID: make(map[string]*memoryRecord)}
}

// memoryStore is a Store. Its turn guards everything: it is a lock that a caller waits for
// no longer than its context lasts.
type memoryStore struct {
	turn chan struct{}
	byID map[string]*memoryRecord
	soon expiries
}

// memoryRecord is a record in a memoryStore. What record points to is never changed.
type memoryRecord struct {
	id     string
	index  int // in expiries
	record *SessionRecord
}

func (m *memoryStore) lock(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case m.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

func (m *memoryStore) unlock() { <-m.turn }

func (m *memoryStore) Read(ctx context.Context, id string) (*SessionRecord, error) {
	if err := m.lock(ctx); err != nil {
		return nil, err
	}
	defer m.unlock()
	if kept := m.byID[id]; kept != nil {
		return kept.record.clone(), nil
	}
	return nil, nil
}

func (m *memoryStore) Write(ctx context.Context, id string, change func(*SessionRecord) error) error {
	if err := m.lock(ctx); err != nil {
		return err
	}
	defer m.unlock()
	kept := m.byID[id]
	record := &SessionRecord{}
	if kept != nil {
		record = kept.record.clone()
	}
	if err := change(record); err != nil {
		return err
	}
	if kept == nil {
		kept = &memoryRecord{id: id, record: record.clone()}
		m.byID[id] = kept
		heap.Push(&m.soon, kept)
		return nil
	}
	kept.record = record.clone()
	heap.Fix(&m.soon, kept.index)
	return nil
}

func (m *memoryStore) Renew(ctx context.Context, id string, now, expires time.Time) (bool, error) {
	if err := m.lock(ctx); err != nil {
		return false, err
	}
	defer m.unlock()
	kept := m.byID[id]
	if kept == nil || kept.record.expired(now) {
		return false, nil
	}
	if expires.After(kept.record.Expires) {
		renewed := *kept.record
		renewed.Expires = expires
		kept.record = &renewed
		heap.Fix(&m.soon, kept.index)
	}
	return true, nil
}

func (m *memoryStore) Delete(ctx context.Context, id string) (bool, error) {
	if err := m.lock(ctx); err != nil {
		return false, err
	}
	defer m.unlock()
	kept := m.byID[id]
	if kept == nil {
		return false, nil
	}
	m.forget(kept)
	return true, nil
}

func (m *memoryStore) Expire(ctx context.Context, now time.Time) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.unlock()
	n := 0
	for len(m.soon) > 0 && m.soon[0].record.expired(now) {
		m.forget(m.soon[0])
		n++
	}
	return n, nil
}

func (m *memoryStore) Len(ctx context.Context) (int, error) {
	if err := m.lock(ctx); err != nil {
		return 0, err
	}
	defer m.unlock()
	return len(m.byID), nil
}

func (m *memoryStore) forget(kept *memoryRecord) {
	heap.Remove(&m.soon, kept.index)
	delete(m.byID, kept.id)
}

// expiries is a heap of records, the first to expire on top.
type expiries []*memoryRecord

func (e expiries) Len() int           { return len(e) }
func (e expiries) Less(i, j int) bool { return e[i].record.Expires.Before(e[j].record.Expires) }

func (e expiries) Swap(i, j int) {
	e[i], e[j] = e[j], e[i]
	e[i].index, e[j].index = i, j
}

func (e *expiries) Push(x any) {
	kept := x.(*memoryRecord) //nolint:forcetypeassert // heap.Push is called above alone
	kept.index = len(*e)
	*e = append(*e, kept)
}

func (e *expiries) Pop() any {
	last := len(*e) - 1
	kept := (*e)[last]
	(*e)[last] = nil
	*e = (*e)[:last]
	return kept
}

// clone returns a copy that shares nothing with r.
func (r *SessionRecord) clone() *SessionRecord {
	whole := &SessionRecord{History: slices.Clone(r.History), Expires: r.Expires}
	for i, turn := range whole.History {
		whole.History[i] = slices.Clone(turn)
	}
	if r.Values != nil {
		whole.Values = make(map[string]json.RawMessage, len(r.Values))
		for key, value := range r.Values {
			whole.Values[key] = slices.Clone(value)
		}
	}
	return whole
}

// expired reports whether r is to be forgotten at now.
func (r *SessionRecord) expired(now time.Time) bool { return !now.Before(r.Expires) }
