package wire

import (
	"context"
	"errors"
	"io"

	"github.com/dspex/dspex/internal/status"
)

// errSettled ends the contexts of reverse calls when their parent is settled.
var errSettled = errors.New("the call that this one belongs to has ended")

// Stream is one call to the peer. Its methods are safe for concurrent use.
type Stream struct {
	c       *Conn
	ctx     context.Context // of Start: the parent of the reverse calls' contexts
	handler Handler
	parent  uint64
	id      uint64
	done    chan struct{} // closed when the outcome is known

	// The Conn's mutex guards what follows.
	out       sendFlow
	in        recvFlow
	end       uint64 // where the last frame of the call ends in the byte stream
	whole     bool   // all of the call was queued
	reverse   context.Context
	stop      context.CancelCauseFunc
	items     [][]byte
	arrived   chan struct{} // tells Next of an item
	body      []byte        // of the RESULT whose attachments are arriving
	intake    *intake       // those attachments
	msg       Message
	err       error
	settledCh chan struct{} // made by the first Settled
	finished  bool          // msg and err are set
	settled   bool          // the peer answered, or the connection is lost
	canceled  bool          // CANCEL was sent
	discard   bool          // items are not wanted any more
	given     bool          // msg was given to the caller
	abandoned bool          // nobody will ask for msg
}

// ID returns the stream's id.
func (s *Stream) ID() uint64 { return s.id }

// Next returns the next item of the result stream, in the order sent, and io.EOF when the result
// is in and every item was returned. An item stays the peer's to count against its credit until
// Next returns it. After a failure Next returns the items that came before it, then its error.
// When ctx ends Next returns its error and the stream goes on.
func (s *Stream) Next(ctx context.Context) ([]byte, error) {
	c := s.c
	for {
		c.mu.Lock()
		if len(s.items) > 0 {
			item := s.items[0]
			s.items[0] = nil
			s.items = s.items[1:]
			c.consumedLocked(s.id, &s.in, len(item), s.settled)
			c.mu.Unlock()
			return item, nil
		}
		if s.finished {
			err := s.err
			c.mu.Unlock()
			if err == nil {
				err = io.EOF
			}
			return nil, err
		}
		if s.arrived == nil {
			s.arrived = make(chan struct{}, 1)
		}
		arrived := s.arrived
		c.mu.Unlock()
		select {
		case <-arrived:
		case <-s.done:
		case <-ctx.Done():
			return nil, status.FromContext(ctx, op, "no item came in time")
		}
	}
}

// Result waits for the peer's answer: its message, which the caller must Release if it has
// attachments, or the error, a *RemoteError if the peer answered one. Items that Next has not
// taken are dropped. When ctx ends first, Result cancels the call, gives it up and returns the
// context's error at once; Settled tells when the peer has confirmed.
func (s *Stream) Result(ctx context.Context) (Message, error) {
	select {
	case <-s.done:
	default:
		s.dropItems()
		select {
		case <-s.done:
		case <-ctx.Done():
			err := status.FromContext(ctx, op, "the call was canceled before its result came")
			s.giveUp(err)
			return Message{}, err
		}
	}
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.given = true
	return s.msg, s.err
}

// Cancel asks the peer to stop. The peer still answers. It does nothing on a settled stream.
func (s *Stream) Cancel() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.cancelLocked(context.Canceled)
}

// Close gives the call up: it is canceled unless it is settled, and items, result and attachments
// that were not taken are dropped. A Stream whose Result was taken need not be closed.
func (s *Stream) Close() {
	s.giveUp(status.New(status.Canceled, op, "the call was given up"))
}

// Settled returns a channel that is closed when the peer has answered or the connection is lost.
func (s *Stream) Settled() <-chan struct{} {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.settledCh == nil {
		s.settledCh = make(chan struct{})
		if s.settled {
			close(s.settledCh)
		}
	}
	return s.settledCh
}

// giveUp ends the stream for its caller with err.
func (s *Stream) giveUp(err error) {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.cancelLocked(err)
	s.dropItemsLocked()
	s.abandonLocked()
	s.finish(Message{}, err)
}

// abandonLocked drops the result, also the one that may come.
func (s *Stream) abandonLocked() {
	s.abandoned = true
	if s.finished && !s.given {
		s.msg.Release()
		s.msg.Attachments = nil
	}
	if s.intake != nil { // the RESULT is in: what follows it is dropped like any late frame
		s.settle()
	}
}

func (s *Stream) cancelLocked(cause error) {
	if s.settled || s.canceled {
		return
	}
	s.canceled = true
	if s.stop != nil {
		s.stop(cause)
	}
	s.out.wakeAll()
	s.c.w.push(TypeCancel, 0, s.id, nil, nil)
}

func (s *Stream) dropItems() {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	s.dropItemsLocked()
}

func (s *Stream) dropItemsLocked() {
	s.discard = true
	var n int
	for _, item := range s.items {
		n += len(item)
	}
	s.items = nil
	if n > 0 {
		s.c.consumedLocked(s.id, &s.in, n, s.settled)
	}
}

// finish makes the outcome known, once. The Conn's mutex is held.
func (s *Stream) finish(m Message, err error) {
	if s.finished {
		m.Release()
		return
	}
	s.finished = true
	s.msg, s.err = m, err
	close(s.done)
}

// settle forgets the stream: the peer has answered or is lost. The Conn's mutex is held.
func (s *Stream) settle() {
	if s.settled {
		return
	}
	s.settled = true
	delete(s.c.streams, s.id)
	if s.intake != nil {
		s.intake.abort()
		s.intake = nil
	}
	if s.stop != nil {
		s.stop(errSettled)
	}
	s.out.wakeAll()
	if s.settledCh != nil {
		close(s.settledCh)
	}
	s.c.finishIfDrained()
}

// outlet is where the call's attachments go.
func (s *Stream) outlet() outlet {
	closed := func() bool { return s.settled || s.canceled }
	return outlet{c: s.c, id: s.id, flow: &s.out, closed: closed}
}

// context returns the context of a reverse call. The Conn's mutex is held.
func (s *Stream) context() context.Context {
	if s.reverse == nil {
		s.reverse, s.stop = context.WithCancelCause(s.ctx)
	}
	return s.reverse
}
