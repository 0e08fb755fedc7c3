package wire

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
	if h.Type == TypeError && h.Stream == 0 && !oversized {
		return c.gaveUp()
	}
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
