package wire

import (
	"encoding/binary"
)

func pingPayload(id uint64) []byte { return binary.BigEndian.AppendUint64(nil, id) }

func creditPayload(n int64) []byte {
	return binary.BigEndian.AppendUint32(nil, uint32(min(n, 1<<32-1)))
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

// gaveUp reads why the peer ends the connection.
func (c *Conn) gaveUp() error {
	payload, err := c.d.Payload()
	if err != nil {
		return err
	}
	return &RemoteError{Payload: payload}
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
