package wire

import (
	"github.com/dspex/dspex/internal/status"
)

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
