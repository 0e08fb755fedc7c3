package dspex

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/status"
)

// SessionMode says how closely a [Session] keeps to its worker.
type SessionMode uint8

const (
	// Soft prefers the worker that the session used last, whose caches are warm, and
	// moves to another when that one is busy or gone. Nothing is lost by a move: what a
	// soft session keeps, it keeps in Go.
	Soft SessionMode = iota
	// Hard executes every call of the session on one worker, for Python code that keeps
	// something between calls. When that worker is gone, [CodeSessionLost] says so once.
	Hard
)

// String returns "soft" or "hard".
func (m SessionMode) String() string {
	switch m {
	case Soft:
		return "soft"
	case Hard:
		return "hard"
	default:
		return fmt.Sprintf("mode_%d", uint8(m))
	}
}

// sessionIDLimit bounds the length of a session's id, in bytes: room for a tenant, a user
// and a UUID, and short enough for a log line or a file's name.
const sessionIDLimit = 128

// Session is a [Runner] that gives the calls of one user, or one conversation, a worker
// and a memory: JSON values ([Session.Set], [Session.Get], [Session.Update]) and the turns
// of a conversation ([Session.Append], [Session.History]). The memory is kept in Go, in
// [Config].Store, so that a worker's death does not touch it.
//
// A Session is a handle: making one costs and starts nothing, and every handle of a
// Runtime with the same id is the same session. It begins with its first use and is
// forgotten when it has not been used for [SessionSettings].TTL, or by [Session.End].
//
// The worker of a [Hard] session may be gone because it died or because it was replaced
// (see [Runtime.Reset]). Then exactly one call fails with [CodeSessionLost] and the number
// of the epoch that is over: one that was running, or else the next. Others that were
// running on that worker fail with [CodeWorkerLost]; they are not run again elsewhere, as
// calls without a hard session are. Every later call belongs to the next epoch, on a new
// worker.
//
// All methods may be called concurrently.
type Session struct {
	rt   *Runtime
	id   string
	mode SessionMode
	err  error // why there cannot be such a session
}

var _ Runner = (*Session)(nil)

// Session returns the session with that id: 1 to 128 visible ASCII characters, and no
// space. It never fails: what is wrong with id or mode is reported by [Session.Err] and by
// every use, as [CodeInvalidArgument], and nothing is started.
func (rt *Runtime) Session(id string, mode SessionMode) *Session {
	return &Session{rt: rt, id: id, mode: mode, err: checkSession(id, mode)}
}

func checkSession(id string, mode SessionMode) error {
	switch {
	case id == "":
		return sessionFault("a session needs an id")
	case len(id) > sessionIDLimit:
		return sessionFault("the session's id has %d bytes, the limit is %d; use a hash of it", len(id), sessionIDLimit)
	case mode != Soft && mode != Hard:
		return sessionFault("%d is not a session mode; use Soft or Hard", uint8(mode))
	}
	for i := range len(id) {
		if c := id[i]; c <= ' ' || c > '~' {
			return sessionFault("the session id %q has %q at position %d; "+
				"use visible ASCII characters and no space", id, c, i)
		}
	}
	return nil
}

func sessionFault(format string, args ...any) *Error {
	return status.New(status.InvalidArgument, "session", format, args...)
}

// ID returns the session's id.
func (s *Session) ID() string { return s.id }

// Mode returns the session's mode.
func (s *Session) Mode() SessionMode { return s.mode }

// Err returns why the session cannot be used, with code [CodeInvalidArgument], or nil.
func (s *Session) Err() error { return s.err }

// Epoch returns how many workers a [Hard] session has had: 1 from its first call on, and
// one more from the first call after each [CodeSessionLost]. It is 0 for a session that
// was forgotten and for a soft one.
func (s *Session) Epoch() uint64 { return s.rt.sessions.epoch(s.id) }

func (s *Session) runtime() *Runtime { return s.rt }

// execute runs a call on the session's worker.
func (s *Session) execute(ctx context.Context, call *backend.Call) (*backend.Reply, error) {
	if s.err != nil {
		return nil, s.err
	}
	a, err := s.rt.sessions.enter(s.id, s.mode)
	if err != nil {
		return nil, err
	}
	defer s.rt.sessions.leave(a)
	if err := s.renew(ctx); err != nil {
		// What the session remembers may expire early, but the call needs none of it.
		s.rt.logger.WarnContext(ctx, "the state of a session could not be renewed", "session", s.id, "error", err)
	}
	for {
		b, sent, reply, err := s.attempt(ctx, a, call)
		if err == nil {
			return reply, nil
		}
		var e *Error
		if s.mode == Soft || b == nil || !errors.As(err, &e) || e.Code != CodeWorkerLost || e.Worker != b.worker {
			return nil, err
		}
		if err := s.rt.sessions.lose(a, b, sent, e); err != nil {
			if CodeOf(err) == CodeSessionLost {
				s.rt.logger.InfoContext(ctx, "a session lost its worker", "session", s.id, "call", call.ID, "error", err)
			}
			return nil, err
		}
	}
}

// attempt runs a call once under the session's binding, making one if there is none, and
// returns that binding, nil if no worker was chosen, and whether the call was about to be
// sent.
func (s *Session) attempt(ctx context.Context, a *affinity, call *backend.Call) (b *binding, sent bool, reply *backend.Reply, err error) {
	b, settled, err := s.rt.sessions.place(ctx, a)
	if err != nil {
		return nil, false, nil, err
	}
	defer settled()
	placed := *call
	placed.Pin = s.mode == Hard
	if b != nil {
		placed.Prefer = b.worker
	}
	placed.Chosen = func(w backend.Worker) {
		bound := s.rt.sessions.bind(a, b, w.ID)
		if bound != b {
			s.rt.logger.DebugContext(ctx, "a session has another worker", "session", s.id, "mode", s.mode.String(),
				"worker", w.ID, "epoch", bound.epoch, "call", call.ID)
		}
		b, sent = bound, true
		settled()
	}
	reply, err = s.rt.backend.Run(ctx, &placed)
	return b, sent, reply, err
}

// renew puts off the end of what the session remembers, if it remembers anything.
func (s *Session) renew(ctx context.Context) error {
	now := s.rt.sessions.now()
	_, err := s.rt.store.Renew(ctx, s.id, now, now.Add(s.rt.settings.Session.TTL))
	return err
}

// SessionStats counts what became of the sessions of a [Runtime] since it was opened.
type SessionStats struct {
	// Placed is how many sessions have a worker to prefer or to keep to.
	Placed int `json:"placed"`
	// Moved counts how often a soft session went to another worker.
	Moved uint64 `json:"moved"`
	// Lost counts the epochs of hard sessions that ended with [CodeSessionLost].
	Lost uint64 `json:"lost"`
	// Refused counts uses that failed because there were too many sessions.
	Refused uint64 `json:"refused"`
	// Created, Expired and Ended count the sessions that began to remember something,
	// were forgotten for want of use, and were ended; by this Runtime, if a store is
	// shared by several.
	Created uint64 `json:"created"`
	Expired uint64 `json:"expired"`
	Ended   uint64 `json:"ended"`
}

// SessionStats returns a consistent snapshot; it is the caller's own.
func (rt *Runtime) SessionStats() SessionStats { return rt.sessions.snapshot() }

// waitHint is a RetryAfter for something that happens at t.
func waitHint(t, now time.Time) time.Duration { return max(t.Sub(now), time.Millisecond) }
