package wire

import (
	"errors"
	"io"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// errDrained ends a connection that was drained.
var errDrained = errors.New("the connection was drained")

// usable returns an error unless calls can be made. c.mu is held.
func (c *Conn) usable() error {
	switch {
	case c.err != nil:
		return c.lostError(c.err, true)
	case c.writeErr != nil:
		return c.lostError(c.lostWrite(c.writeErr), true)
	case c.maxFrame == 0 || !c.greeted:
		return status.New(status.Internal, op, "a call was made before the handshake")
	default:
		return nil
	}
}

// write is the writer's goroutine.
func (c *Conn) write() {
	err := c.w.run()
	if err == nil {
		if c.finishing() {
			c.lose(status.Wrap(status.Closed, op, errDrained, "%v", errDrained))
		}
		return
	}
	c.mu.Lock()
	c.writeErr = err
	c.mu.Unlock()
	// The reader ends the connection once it has read what the peer sent before it went.
	if rw, ok := c.rw.(interface{ SetReadDeadline(time.Time) error }); ok {
		if rw.SetReadDeadline(time.Now().Add(lastReads)) == nil {
			return
		}
	}
	c.lose(c.lostWrite(err))
}

func (c *Conn) lostWrite(err error) *status.Error {
	return status.Wrap(status.WorkerLost, op, err, "writing to the %v failed: %v", c.o.Side.peer(), err)
}

// lostRead says why reading ended.
func (c *Conn) lostRead(err error) *status.Error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var fault *ProtocolError
	var reason *RemoteError
	switch {
	case errors.As(err, &fault):
		return status.Wrap(status.WorkerLost, op, fault, "%v", fault)
	case errors.As(err, &reason):
		return status.Wrap(status.WorkerLost, op, reason, "the %v gave the connection up: %v", c.o.Side.peer(), reason)
	case c.draining && len(c.streams) == 0:
		return status.Wrap(status.Closed, op, errDrained, "%v", errDrained)
	case c.writeErr != nil:
		return c.lostWrite(c.writeErr)
	case errors.Is(err, io.EOF):
		return status.Wrap(status.WorkerLost, op, err, "the %v closed the connection", c.o.Side.peer())
	default:
		return status.Wrap(status.WorkerLost, op, err, "reading from the %v failed: %v", c.o.Side.peer(), err)
	}
}

// lose ends the connection for the reason err, once. It returns before everything has ended only
// where another lose is at it.
func (c *Conn) lose(err *status.Error) {
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return
	}
	c.err = err // nothing new is taken from here on
	c.mu.Unlock()
	c.w.stop()
	_ = c.rw.Close() // the connection is over for a reason that says more
	// Only when the last write has returned is it known what was sent.
	<-c.w.ended
	c.mu.Lock()
	defer c.mu.Unlock()
	taken := c.w.taken()
	for _, s := range c.streams {
		if s.stop != nil { // handlers are told that it was not the call that ended
			s.stop(err)
		}
		s.finish(Message{}, c.lostError(err, !s.whole || s.end > taken))
		s.settle()
	}
	for id, in := range c.inbound {
		delete(c.inbound, id)
		in.drop()
	}
	c.cancel(err)
	clear(c.pings)
	close(c.done)
}

// lostError returns the error of one call. Each call gets its own: those above fill it in.
func (c *Conn) lostError(err error, unsent bool) error {
	var e *status.Error
	if !errors.As(err, &e) {
		return err
	}
	own := *e
	if unsent {
		own.Retryable = true
		own.Err = errors.Join(ErrNotSent, e.Err)
	}
	return &own
}

// finishIfDrained ends the connection when the peer has drained it and nothing is left to do.
// c.mu is held.
func (c *Conn) finishIfDrained() {
	if c.finishingLocked() {
		c.w.finish()
	}
}

func (c *Conn) finishingLocked() bool {
	return c.drained && len(c.streams) == 0 && len(c.inbound) == 0
}

func (c *Conn) finishing() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.finishingLocked()
}
