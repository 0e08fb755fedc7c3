package dspex

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/status"
)

// sessionKeyLimit bounds the length of a key of a session's values, in bytes.
const sessionKeyLimit = 128

// Get decodes the value under key into the pointer into, as encoding/json does, and
// reports whether there is one; if not, it leaves into alone. A value that does not fit
// is [CodeInvalidArgument].
func (s *Session) Get(ctx context.Context, key string, into any) (bool, error) {
	if err := checkKey(key); err != nil {
		return false, err
	}
	record, err := s.read(ctx)
	if err != nil {
		return false, err
	}
	value, ok := record.Values[key]
	if !ok {
		return false, nil
	}
	if err := json.Unmarshal(value, into); err != nil {
		return false, status.Wrap(status.InvalidArgument, "session", err,
			"the value %q of session %q cannot be read into %T: %v", key, s.id, into, err)
	}
	return true, nil
}

// Set keeps value under key, encoded by encoding/json. Keys have 1 to 128 bytes.
//
// Errors: [CodeInvalidArgument] for a value that has no JSON, and for one with which the
// session would exceed [SessionSettings].Bytes; [CodeOverloaded] when the session is new
// and there are [SessionSettings].Max already; [CodeUnavailable] when the store fails.
// Nothing is changed then.
func (s *Session) Set(ctx context.Context, key string, value any) error {
	if err := checkKey(key); err != nil {
		return err
	}
	data, err := s.encode(value, "the value "+key)
	if err != nil {
		return err
	}
	return s.write(ctx, true, func(r *SessionRecord) error {
		r.set(key, data)
		return s.checkSize(r)
	})
}

// Update replaces the value under key by what change makes of it, atomically: of
// concurrent updates none is lost. Change gets nil when there is no value, and the value
// is deleted when change returns nil; an error of change is returned as it is and nothing
// is changed. Change is called at most once. It must not use a session, and should be
// quick: the store waits for it.
//
// Errors are those of [Session.Set].
func (s *Session) Update(ctx context.Context, key string, change func(old json.RawMessage) (any, error)) error {
	if err := checkKey(key); err != nil {
		return err
	}
	return s.write(ctx, true, func(r *SessionRecord) error {
		value, err := change(slices.Clone(r.Values[key]))
		if err != nil {
			return err
		}
		if value == nil {
			delete(r.Values, key)
			return nil
		}
		data, err := s.encode(value, "the value "+key)
		if err != nil {
			return err
		}
		r.set(key, data)
		return s.checkSize(r)
	})
}

// Delete forgets the values under keys; those that do not exist are passed over.
func (s *Session) Delete(ctx context.Context, keys ...string) error {
	return s.write(ctx, false, func(r *SessionRecord) error {
		for _, key := range keys {
			delete(r.Values, key)
		}
		return nil
	})
}

// Values returns every value by its key. The map is the caller's own, never nil.
func (s *Session) Values(ctx context.Context) (map[string]json.RawMessage, error) {
	record, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	if record.Values == nil {
		return map[string]json.RawMessage{}, nil
	}
	return record.Values, nil
}

// Append adds turns to the conversation. A turn is anything whose JSON is an object: the
// fields of one exchange, such as a question and its answer, as in the messages of
// DSPy's History. All turns are added or none.
//
// The oldest turns are dropped to keep the conversation within [SessionSettings].Turns
// and the session within [SessionSettings].Bytes. Errors are those of [Session.Set]:
// [CodeInvalidArgument] for a turn that is no object, and for turns that are too big
// even alone.
func (s *Session) Append(ctx context.Context, turns ...any) error {
	added := make([]json.RawMessage, len(turns))
	for i, turn := range turns {
		data, err := s.encode(turn, "a turn")
		if err != nil {
			return err
		}
		if data[0] != '{' {
			return sessionFault("a turn of session %q is %s, not a JSON object", s.id, excerpt(data))
		}
		added[i] = data
	}
	if len(added) == 0 {
		return s.usable()
	}
	return s.write(ctx, true, func(r *SessionRecord) error {
		old := len(r.History)
		r.History = append(r.History, added...)
		drop := max(len(r.History)-s.rt.settings.Session.Turns, 0)
		for size := r.size() - sizeOf(r.History[:drop]); size > s.rt.settings.Session.Bytes && drop < old; drop++ {
			size -= len(r.History[drop])
		}
		r.History = slices.Clone(r.History[drop:])
		return s.checkSize(r)
	})
}

// History returns the turns of the conversation, the oldest first. The slice is the
// caller's own.
func (s *Session) History(ctx context.Context) ([]json.RawMessage, error) {
	record, err := s.read(ctx)
	if err != nil {
		return nil, err
	}
	return record.History, nil
}

// ClearHistory forgets the conversation and keeps the values.
func (s *Session) ClearHistory(ctx context.Context) error {
	return s.write(ctx, false, func(r *SessionRecord) error {
		r.History = nil
		return nil
	})
}

// End forgets the session: its values, its conversation and its worker. Calls that are
// running go on. A later use begins it anew.
func (s *Session) End(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	existed, err := s.rt.store.Delete(ctx, s.id)
	if err != nil {
		return s.storeFailed(ctx, err)
	}
	s.rt.sessions.drop(s.id)
	if existed {
		s.rt.sessions.count(func(c *SessionStats) { c.Ended++ })
	}
	return nil
}

// usable says why nothing can be read or written.
func (s *Session) usable() error {
	if s.err != nil {
		return s.err
	}
	select {
	case <-s.rt.closed:
		return status.New(status.Closed, "session", "the Runtime is closed")
	default:
		return nil
	}
}

// read returns what the session remembers, a zero record if nothing.
func (s *Session) read(ctx context.Context) (*SessionRecord, error) {
	if err := s.usable(); err != nil {
		return nil, err
	}
	s.rt.sessions.use(s.id)
	if err := s.renew(ctx); err != nil {
		return nil, s.storeFailed(ctx, err)
	}
	record, err := s.rt.store.Read(ctx, s.id)
	if err != nil {
		return nil, s.storeFailed(ctx, err)
	}
	now := s.rt.sessions.now()
	switch {
	case record == nil:
		return &SessionRecord{}, nil
	case record.expired(now):
		return &SessionRecord{}, s.expire(ctx, now)
	}
	return record, nil
}

// The two ways in which write stops a store's Write before anything is changed.
var (
	errNothing = errors.New("there is nothing to change")
	errNew     = errors.New("the session is new")
)

// write changes what the session remembers. A session that remembers nothing begins to if
// create is set.
func (s *Session) write(ctx context.Context, create bool, change func(*SessionRecord) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	s.rt.sessions.use(s.id)
	err := s.change(ctx, create, false, change)
	switch {
	case errors.Is(err, errNothing):
		return nil
	case errors.Is(err, errNew):
		return s.create(ctx, change)
	}
	return err
}

// create changes a session that remembers nothing. One at a time is made, so that the
// bound on their number is exact within this Runtime.
func (s *Session) create(ctx context.Context, change func(*SessionRecord) error) error {
	sessions := s.rt.sessions
	select {
	case sessions.inserting <- struct{}{}:
		defer func() { <-sessions.inserting }()
	case <-ctx.Done():
		return status.FromContext(ctx, "session", "other sessions were being made")
	}
	if err := s.expire(ctx, sessions.now()); err != nil {
		return err
	}
	n, err := s.rt.store.Len(ctx)
	if err != nil {
		return s.storeFailed(ctx, err)
	}
	if limit := s.rt.settings.Session.Max; n >= limit {
		sessions.count(func(c *SessionStats) { c.Refused++ })
		err := status.New(status.Overloaded, "session",
			"%d sessions are remembered and the limit is %d (session.max); end some, or wait until they expire", n, limit)
		err.Retryable = true
		return err
	}
	return s.change(ctx, true, true, change)
}

// expire has the store forget what has expired.
func (s *Session) expire(ctx context.Context, now time.Time) error {
	n, err := s.rt.store.Expire(ctx, now)
	if err != nil {
		return s.storeFailed(ctx, err)
	}
	s.rt.sessions.count(func(c *SessionStats) { c.Expired += uint64(n) })
	return nil
}

// change has the store change the record, within the limits.
func (s *Session) change(ctx context.Context, create, mayBegin bool, change func(*SessionRecord) error) error {
	var own error // of change, which the store hands through
	var begun, expired bool
	err := s.rt.store.Write(ctx, s.id, func(r *SessionRecord) error {
		now := s.rt.sessions.now()
		begun = r.Expires.IsZero() || r.expired(now)
		expired = begun && !r.Expires.IsZero()
		switch {
		case begun && !create:
			own = errNothing
		case begun && !mayBegin:
			own = errNew
		default:
			if begun {
				*r = SessionRecord{}
			}
			own = change(r)
		}
		r.Expires = now.Add(s.rt.settings.Session.TTL)
		return own
	})
	switch {
	case own != nil:
		return own
	case err != nil:
		return s.storeFailed(ctx, err)
	}
	if begun {
		s.rt.sessions.count(func(c *SessionStats) {
			c.Created++
			if expired {
				c.Expired++
			}
		})
	}
	return nil
}

// encode returns value's JSON, or says why it cannot be kept.
func (s *Session) encode(value any, what string) (json.RawMessage, error) {
	data, err := json.Marshal(value)
	if err != nil {
		return nil, status.Wrap(status.InvalidArgument, "session", err, "%s is not JSON: %v", what, err)
	}
	if limit := s.limit(); len(data) > limit {
		return nil, sessionFault("%s has %d bytes of JSON; a session's limit is %d (session.bytes)", what, len(data), limit)
	}
	return data, nil
}

// limit is how many bytes the session may remember.
func (s *Session) limit() int { return s.rt.settings.Session.Bytes }

func (s *Session) checkSize(r *SessionRecord) error {
	if size := r.size(); size > s.limit() {
		return sessionFault("session %q would remember %d bytes; the limit is %d (session.bytes)", s.id, size, s.limit())
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > sessionKeyLimit || !utf8.ValidString(key) {
		return sessionFault("the key %q of a session's value needs 1 to %d bytes of UTF-8", excerpt([]byte(key)), sessionKeyLimit)
	}
	return nil
}

// storeFailed makes the error of an operation that the store did not do.
func (s *Session) storeFailed(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return status.FromContext(ctx, "session", "the store had not answered for session "+s.id)
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return status.Wrap(status.Unavailable, "session", err, "the store failed for session %q: %v", s.id, err)
}

// excerpt is the beginning of data, for an error.
func excerpt(data []byte) []byte {
	const limit = 40
	if len(data) <= limit {
		return data
	}
	return append(bytes.ToValidUTF8(data[:limit], nil), "…"...)
}

// set keeps a value.
func (r *SessionRecord) set(key string, value json.RawMessage) {
	if r.Values == nil {
		r.Values = make(map[string]json.RawMessage)
	}
	r.Values[key] = value
}

// size is how many bytes a record holds: keys, values and turns.
func (r *SessionRecord) size() int {
	size := sizeOf(r.History)
	for key, value := range r.Values {
		size += len(key) + len(value)
	}
	return size
}

func sizeOf(turns []json.RawMessage) int {
	size := 0
	for _, turn := range turns {
		size += len(turn)
	}
	return size
}
