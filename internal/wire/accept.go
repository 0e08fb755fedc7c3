package wire

import (
	"context"

	"github.com/dspex/dspex/internal/status"
)

// accept registers the peer's new stream.
func (c *Conn) accept(h Header) (*Inbound, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Side.opens(h.Stream) || h.Stream <= c.lastPeerID {
		return nil, faultf(FaultStream, "CALL came on stream %d, which is not a new stream of the %v", h.Stream, c.o.Side.peer())
	}
	c.lastPeerID = h.Stream
	in := &Inbound{ID: h.Stream, c: c}
	in.out.credit, in.in.credit = int64(c.peer.Window), int64(c.o.Window)
	if c.err == nil {
		c.inbound[in.ID] = in
	} else {
		in.gone = true
	}
	return in, nil
}

func (c *Conn) onCall(h Header) error {
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	head, body, err := ParseCall(payload, h.Flags)
	if err != nil {
		return err
	}
	in, err := c.accept(h)
	if err != nil {
		return err
	}
	in.Method, in.Parent, in.Body = c.intern(head.Method), head.Parent, body
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.routeLocked(in); err != nil {
		return c.rejectLocked(in, err)
	}
	if len(head.Sizes) == 0 {
		c.dispatchLocked(in)
		return nil
	}
	if total := sum(head.Sizes); total > c.o.MaxAttachments {
		return c.rejectLocked(in, attachmentsTooLong(total, c.o.MaxAttachments))
	}
	in.intake = newIntake(head.Sizes)
	switch {
	case in.intake.complete():
		c.deliverCallLocked(in, in.intake)
	case in.intake.spills():
		c.spill(in.ID, in.intake)
	}
	return nil
}

// routeLocked chooses the handler and the context of a call.
func (c *Conn) routeLocked(in *Inbound) error {
	parent := c.ctx
	if in.Parent == 0 {
		in.handler = c.o.Handler
	} else {
		s := c.streams[in.Parent]
		switch {
		case s == nil && (!c.o.Side.opens(in.Parent) || in.Parent >= c.nextID):
			return status.New(status.InvalidArgument, op, "%s names parent stream %d, which was never opened", in.Method, in.Parent)
		case s == nil || s.canceled:
			return status.Wrap(status.Canceled, op, errSettled, "%s: %v", in.Method, errSettled)
		}
		in.handler = s.handler
		if s.handler != nil {
			parent = s.context()
		}
	}
	if in.handler == nil {
		return status.New(status.Unsupported, op, "%s: no calls are served here", in.Method)
	}
	in.ctx, in.stop = context.WithCancelCause(parent)
	return nil
}

// dispatchLocked starts the handler.
func (c *Conn) dispatchLocked(in *Inbound) {
	if !in.gone {
		c.user.Go(in.serve)
	}
}

// deliverCallLocked hands a call over whose attachments are all in.
func (c *Conn) deliverCallLocked(in *Inbound, arrived *intake) {
	in.intake = nil
	in.Attachments = arrived.store.parts(arrived.sizes)
	c.dispatchLocked(in)
}

func (c *Conn) reject(in *Inbound, err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rejectLocked(in, err)
}

// rejectLocked answers a call that did not reach its handler.
func (c *Conn) rejectLocked(in *Inbound, err error) error {
	if in.stop != nil {
		in.stop(err)
	}
	if in.gone {
		return nil
	}
	ok := c.w.pushControl(TypeError, in.ID, errorPayload(err, c.maxFrame))
	c.forget(in)
	return c.piledUp(ok)
}

// piledUp is the error of a peer that makes us send and does not read.
func (c *Conn) piledUp(ok bool) error {
	if ok || c.w.closed() {
		return nil
	}
	return faultf(FaultMalformed, "the %v does not read: over %d bytes wait for it", c.o.Side.peer(), c.w.most)
}

// intern returns the method's name, made once for each name.
func (c *Conn) intern(method []byte) string {
	if name, ok := c.methods[string(method)]; ok {
		return name
	}
	name := string(method)
	if len(c.methods) < 256 {
		c.methods[name] = name
	}
	return name
}

func (c *Conn) onCancel(h Header) error {
	if _, err := c.small(h, 0); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	in, err := c.theirs(h)
	if in == nil {
		return err
	}
	in.canceled = true
	if in.intake != nil { // not yet handed over
		return c.rejectLocked(in, status.New(status.Canceled, op, "the caller canceled"))
	}
	in.stop(errCanceledByPeer)
	in.out.wakeAll()
	return nil
}
