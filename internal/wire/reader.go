package wire

import (
	"context"
	"encoding/binary"

	"github.com/dspex/dspex/internal/status"
)

func pingPayload(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func creditPayload(n int64) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(min(n, 1<<32-1)))
}

// read is the reader's goroutine. It never waits for anything but bytes.
func (c *Conn) read() {
	defer close(c.readDone)
	for {
		h, oversized, err := c.d.Next()
		if err == nil {
			err = c.frame(h, oversized)
		}
		if err != nil {
			c.lose(c.lostRead(err))
			return
		}
	}
}

// frame handles one frame. An error ends the connection.
func (c *Conn) frame(h Header, oversized bool) error {
	if c.accepts == 0 && h.Type != TypeHello {
		return faultf(FaultMalformed, "%v came before HELLO", h.Type)
	}
	switch h.Type {
	case TypeHello, TypePing, TypePong, TypeDrain:
		if h.Stream != 0 {
			return faultf(FaultMalformed, "%v came on stream %d, not on 0", h.Type, h.Stream)
		}
	case TypeLog:
	default:
		if h.Stream == 0 {
			return faultf(FaultMalformed, "%v came on stream 0", h.Type)
		}
	}
	if oversized {
		return c.oversized(h)
	}
	switch h.Type {
	case TypeHello:
		return c.onHello()
	case TypeCall:
		return c.onCall(h)
	case TypeResult:
		return c.onResult(h)
	case TypeError:
		return c.onError(h)
	case TypeChunk:
		return c.onChunk(h)
	case TypeCredit:
		return c.onCredit(h)
	case TypeCancel:
		return c.onCancel(h)
	case TypePing, TypePong:
		return c.onPing(h)
	case TypeDrain:
		return c.onDrain(h)
	default:
		return c.onLog(h)
	}
}

func (c *Conn) onHello() error {
	if c.accepts != 0 {
		return faultf(FaultMalformed, "HELLO came twice")
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	hello, err := parseHello(payload, c.o.Side.peer())
	if err != nil {
		return err
	}
	c.accepts = min(hello.MaxFrame, c.o.MaxFrame)
	c.d.maxFrame = c.accepts
	c.mu.Lock()
	defer c.mu.Unlock()
	c.peer = hello
	c.maxFrame = c.accepts
	close(c.hello)
	return nil
}

// oversized handles a frame that is too long to be read; its payload is skipped.
func (c *Conn) oversized(h Header) error {
	limit := c.d.maxFrame
	tooLong := tooLong(h.Type.String(), int(h.Length), limit)
	switch h.Type {
	case TypeCall:
		in, err := c.accept(h)
		if err != nil {
			return err
		}
		return c.reject(in, tooLong)
	case TypeResult, TypeError:
		c.mu.Lock()
		defer c.mu.Unlock()
		s, err := c.ours(h)
		if s != nil {
			s.finish(Message{}, tooLong)
			s.settle()
		}
		return err
	case TypeChunk:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.o.Side.opens(h.Stream) {
			s, err := c.ours(h)
			if s != nil {
				s.finish(Message{}, tooLong)
				s.cancelLocked(tooLong)
				s.dropItemsLocked()
				s.abandonLocked()
			}
			return err
		}
		in, err := c.theirs(h)
		if in != nil && in.intake != nil {
			return c.rejectLocked(in, tooLong)
		}
		return err
	case TypeLog:
		return nil
	default:
		return faultf(FaultMalformed, "%v has %d bytes", h.Type, h.Length)
	}
}

// ours returns the stream that a frame of the peer's answers, nil if it is settled. c.mu is held.
func (c *Conn) ours(h Header) (*Stream, error) {
	if s := c.streams[h.Stream]; s != nil {
		return s, nil
	}
	if !c.o.Side.opens(h.Stream) || h.Stream >= c.nextID {
		return nil, faultf(FaultStream, "%v came on stream %d, which was never opened by the %v", h.Type, h.Stream, c.o.Side)
	}
	return nil, nil
}

// theirs returns the peer's call that a frame belongs to, nil if it is answered. c.mu is held.
func (c *Conn) theirs(h Header) (*Inbound, error) {
	if in := c.inbound[h.Stream]; in != nil {
		return in, nil
	}
	if c.o.Side.opens(h.Stream) || h.Stream > c.lastPeerID {
		return nil, faultf(FaultStream, "%v came on stream %d, which was never opened by the %v", h.Type, h.Stream, c.o.Side.peer())
	}
	return nil, nil
}

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

func (c *Conn) onResult(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	c.mu.Unlock()
	if s == nil {
		return err
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	sizes, body, err := ParseResult(payload, h.Flags)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case s.settled:
		return nil
	case s.intake != nil:
		return faultf(FaultMalformed, "RESULT came twice on stream %d", h.Stream)
	case len(sizes) == 0:
		s.finish(Message{Body: body}, nil)
		s.settle()
		return nil
	}
	total := sum(sizes)
	if total > c.o.MaxAttachments {
		tooLong := attachmentsTooLong(total, c.o.MaxAttachments)
		s.finish(Message{}, tooLong)
		s.cancelLocked(tooLong)
	}
	if s.finished || s.abandoned { // nobody waits: what follows is dropped like any late frame
		s.settle()
		return nil
	}
	s.body, s.intake = body, newIntake(sizes)
	switch {
	case s.intake.complete():
		c.deliverResultLocked(s, s.intake)
	case s.intake.spills():
		c.spill(s.id, s.intake)
	}
	return nil
}

// deliverResultLocked hands a result over whose attachments are all in.
func (c *Conn) deliverResultLocked(s *Stream, arrived *intake) {
	s.intake = nil
	s.finish(Message{Body: s.body, Attachments: arrived.store.parts(arrived.sizes)}, nil)
	s.settle()
}

func (c *Conn) onError(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	c.mu.Unlock()
	if s == nil {
		return err
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.finish(Message{}, &RemoteError{Payload: payload})
	s.settle()
	return nil
}

func (c *Conn) onChunk(h Header) error {
	if h.Length == 0 {
		return faultf(FaultMalformed, "CHUNK on stream %d is empty", h.Stream)
	}
	if c.o.Side.opens(h.Stream) {
		return c.onAnswerChunk(h)
	}
	c.mu.Lock()
	in, err := c.theirs(h)
	if in == nil {
		c.mu.Unlock()
		return err
	}
	arriving := in.intake
	if !h.attachments() || arriving == nil {
		c.mu.Unlock()
		return faultf(FaultMalformed, "CHUNK came on stream %d, which announced no attachments", h.Stream)
	}
	ok := in.in.arrived(int(h.Length))
	c.mu.Unlock()
	return c.onAttachment(h, arriving, ok)
}

// onAnswerChunk handles a chunk that belongs to the answer of a call of ours.
func (c *Conn) onAnswerChunk(h Header) error {
	c.mu.Lock()
	s, err := c.ours(h)
	if s == nil {
		c.mu.Unlock()
		return err
	}
	arriving, ok := s.intake, s.in.arrived(int(h.Length))
	c.mu.Unlock()
	if h.attachments() {
		if arriving == nil {
			return faultf(FaultMalformed, "CHUNK came on stream %d, which announced no attachments", h.Stream)
		}
		return c.onAttachment(h, arriving, ok)
	}
	switch {
	case !ok:
		return noCredit(h)
	case arriving != nil:
		return faultf(FaultMalformed, "CHUNK came on stream %d after its RESULT", h.Stream)
	}
	item, err := c.d.Payload()
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.discard || s.finished {
		c.consumedLocked(s.id, &s.in, len(item), s.settled)
		return nil
	}
	s.items = append(s.items, item)
	if s.arrived != nil {
		select {
		case s.arrived <- struct{}{}:
		default:
		}
	}
	return nil
}

func noCredit(h Header) error {
	return faultf(FaultCredit, "CHUNK of %d bytes came on stream %d without credit", h.Length, h.Stream)
}

// onAttachment takes in the next bytes of attachments.
func (c *Conn) onAttachment(h Header, arriving *intake, credit bool) error {
	n := int(h.Length)
	switch {
	case !credit:
		return noCredit(h)
	case int64(n) > arriving.total-arriving.got:
		return faultf(FaultMalformed, "CHUNK on stream %d goes beyond the announced attachments", h.Stream)
	}
	arriving.got += int64(n)
	if arriving.spills() {
		b := c.buffer(n)
		if err := c.d.Into(b); err != nil {
			return err
		}
		arriving.put(b) // writeFile grants the credit and delivers
		return nil
	}
	if err := c.d.Into(arriving.grow(n)); err != nil {
		return err
	}
	if !arriving.complete() {
		c.grant(h.Stream, n)
		return nil
	}
	c.deliver(h.Stream, arriving)
	return nil
}

// grant gives credit back on a stream of either side.
func (c *Conn) grant(id uint64, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil {
		c.consumedLocked(id, &s.in, n, false)
	} else if in := c.inbound[id]; in != nil {
		c.consumedLocked(id, &in.in, n, false)
	}
}

// deliver hands over the message whose attachments are all in, unless it is not wanted any more.
func (c *Conn) deliver(id uint64, arrived *intake) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && s.intake == arrived {
		c.deliverResultLocked(s, arrived)
	} else if in := c.inbound[id]; in != nil && in.intake == arrived {
		c.deliverCallLocked(in, arrived)
	} else {
		arrived.store.release()
	}
}

// spill starts the goroutine that writes a message's attachments to a file.
func (c *Conn) spill(id uint64, arriving *intake) {
	c.io.Go(func() {
		all, err := arriving.writeFile(c.o.TempDir, func(b []byte) {
			c.grant(id, len(b))
			c.scratch.Put(&b)
		})
		switch {
		case err != nil:
			c.spillFailed(id, arriving, status.Wrap(status.Unavailable, op, err, "attachments cannot be kept: %v", err))
		case all:
			c.deliver(id, arriving)
		}
	})
}

func (c *Conn) spillFailed(id uint64, arriving *intake, err *status.Error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.streams[id]; s != nil && s.intake == arriving {
		s.finish(Message{}, err)
		s.cancelLocked(err)
		s.settle()
	} else if in := c.inbound[id]; in != nil && in.intake == arriving {
		// Only a peer that never reads can make this fail, and it is lost by its next frame.
		_ = c.rejectLocked(in, err)
	}
}

// buffer returns n bytes of scratch memory.
func (c *Conn) buffer(n int) []byte {
	if b, ok := c.scratch.Get().(*[]byte); ok && cap(*b) >= n {
		return (*b)[:n]
	}
	return make([]byte, n)
}

func (c *Conn) onCredit(h Header) error {
	payload, err := c.small(h, 4)
	if err != nil {
		return err
	}
	n, err := parseCredit(payload)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.o.Side.opens(h.Stream) {
		s, err := c.ours(h)
		if s != nil {
			s.out.grant(n)
		}
		return err
	}
	in, err := c.theirs(h)
	if in != nil {
		in.out.grant(n)
	}
	return err
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

func (c *Conn) onPing(h Header) error {
	payload, err := c.small(h, 8)
	if err != nil {
		return err
	}
	if h.Type == TypePing {
		return c.piledUp(c.w.pushControl(TypePong, 0, payload))
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	id := binary.BigEndian.Uint64(payload)
	if pong := c.pings[id]; pong != nil {
		delete(c.pings, id)
		close(pong)
	}
	return nil
}

func (c *Conn) onDrain(h Header) error {
	if _, err := c.small(h, 0); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.drained = true
	c.finishIfDrained()
	return nil
}

func (c *Conn) onLog(h Header) error {
	if c.o.Log == nil {
		return nil
	}
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	c.queueLog(logLine{stream: h.Stream, payload: payload})
	return nil
}

// small reads a payload of exactly n bytes into memory that the next frame reuses.
func (c *Conn) small(h Header, n int) ([]byte, error) {
	if int(h.Length) != n {
		return nil, faultf(FaultMalformed, "%v has %d bytes, not %d", h.Type, h.Length, n)
	}
	b := c.fixed[:n]
	return b, c.d.Into(b)
}
