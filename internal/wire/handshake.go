package wire

import (
	"context"
	"encoding/json"

	"github.com/dspex/dspex/internal/status"
)

// Handshake exchanges the HELLO frames and returns the peer's. It must succeed once before
// anything else; further calls return the same. When ctx ends first, the connection stays as it
// is. A peer of another version, or one that is not of the other side, loses the connection.
func (c *Conn) Handshake(ctx context.Context) (Hello, error) {
	if c.o.Side == Worker { // the host speaks first
		if err := c.awaitHello(ctx); err != nil {
			return Hello{}, err
		}
	}
	if err := c.greet(); err != nil {
		return Hello{}, err
	}
	if err := c.awaitHello(ctx); err != nil {
		return Hello{}, err
	}
	return c.Peer(), nil
}

func (c *Conn) awaitHello(ctx context.Context) error {
	select {
	case <-c.hello:
		return nil
	default:
	}
	select {
	case <-c.hello:
		return nil
	case <-c.done:
		return c.Err()
	case <-ctx.Done():
		return status.FromContext(ctx, op, "the "+c.o.Side.peer().String()+" did not say HELLO in time")
	}
}

// greet sends our HELLO unless it was sent.
func (c *Conn) greet() error {
	payload, err := json.Marshal(c.o.Hello)
	if err != nil {
		return status.Wrap(status.Internal, op, err, "HELLO cannot be encoded: %v", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	if !c.greeted {
		c.greeted = true
		c.w.push(TypeHello, 0, 0, nil, payload)
	}
	return nil
}

// Peer returns what the peer said of itself; the zero Hello before it has.
func (c *Conn) Peer() Hello {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.peer
}
