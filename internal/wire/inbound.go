package wire

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

	"github.com/dspex/dspex/internal/status"
)

// errCanceledByPeer is the cause of a handler's context when the peer sent CANCEL.
var errCanceledByPeer = errors.New("the caller canceled")

// Handler serves one call of the peer's, on a goroutine of its own. ctx ends when the peer cancels
// the call, when the parent call is settled or canceled, and when the connection is lost. The
// message that it returns is the result.
//
// An error that it returns is sent as the bytes of its WireError() []byte method if one in its
// tree has it, else as its status code and message. A panic is an error of code internal.
type Handler func(ctx context.Context, in *Inbound) (Message, error)

// Inbound is a call of the peer's. Its attachments are released when the answer was sent.
type Inbound struct {
	Message
	// Method is what is called.
	Method string
	// ID is the call's stream.
	ID uint64
	// Parent is our stream on whose behalf the peer calls, 0 for none.
	Parent uint64

	c       *Conn
	handler Handler
	ctx     context.Context
	stop    context.CancelCauseFunc

	// The Conn's mutex guards what follows.
	out      sendFlow
	in       recvFlow
	intake   *intake // attachments that are arriving
	gone     bool    // answered, or the connection is lost
	canceled bool
}

// Chunk sends one item of the result stream. It waits for the socket and for the peer's credit,
// until ctx or the call's own context ends. The item must not be changed before the call is
// answered.
func (in *Inbound) Chunk(ctx context.Context, item []byte) error {
	if len(item) == 0 {
		return status.New(status.InvalidArgument, op, "an item has no bytes")
	}
	err := in.outlet().chunk(ctx, 0, nil, item, frameBacklog)
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return status.FromContext(ctx, op, "the item was not sent")
	case in.ctx.Err() != nil:
		return status.FromContext(in.ctx, op, "the item was not sent")
	case errors.Is(err, errGone):
		return status.New(status.Canceled, op, "the call has ended: its items are not wanted any more")
	}
	return err
}

// outlet is where the items and the result's attachments go.
func (in *Inbound) outlet() outlet {
	closed := func() bool { return in.gone || in.canceled }
	return outlet{c: in.c, id: in.ID, flow: &in.out, closed: closed}
}

// serve runs the handler and answers.
func (in *Inbound) serve() {
	defer in.stop(nil)
	m, err := in.run()
	in.c.answer(in, m, err)
	in.Release()
}

// run calls the handler; neither a panic nor runtime.Goexit escapes the call's error.
func (in *Inbound) run() (m Message, err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		value := recover()
		if value == nil { // runtime.Goexit: the goroutine ends here, so answer here
			err = status.New(status.Internal, op, "the handler of %s ended its goroutine", in.Method)
			in.c.answer(in, Message{}, err)
			in.Release()
			return
		}
		m, err = Message{}, status.New(status.Internal, op, "the handler of %s panicked: %v", in.Method, printable(value))
		if in.c.o.Panicked != nil {
			in.c.o.Panicked(in.Method, value, debug.Stack())
		}
	}()
	m, err = in.handler(in.ctx, in)
	returned = true
	return m, err
}

// printable formats a panic's value, whose own methods may panic.
func printable(value any) (text string) {
	defer func() {
		if recover() != nil {
			text = "a value that cannot be printed"
		}
	}()
	return fmt.Sprint(value)
}

// answer sends RESULT or ERROR and forgets the call.
func (c *Conn) answer(in *Inbound, m Message, err error) {
	var sizes []int64
	if err == nil {
		sizes, err = c.checkAttachments(m.Attachments)
	}
	if err == nil {
		err = c.sendResult(in, m, sizes)
	}
	if err != nil {
		c.refuse(in, err)
	}
}

// sendResult sends a result with its attachments and forgets the call unless it fails.
func (c *Conn) sendResult(in *Inbound, m Message, sizes []int64) error {
	var room [64]byte
	head := AppendResultHead(room[:0], sizes)
	var flags uint8
	if len(sizes) > 0 {
		flags = FlagAttachments
	}
	if c.w.waitRoom(c.ctx, frameBacklog) != nil {
		return nil // lost: nobody to answer
	}
	c.mu.Lock()
	if in.gone {
		c.mu.Unlock()
		return nil
	}
	if length := len(head) + len(m.Body); length > c.maxFrame {
		c.mu.Unlock()
		return tooLong("result", length, c.maxFrame)
	}
	c.w.push(TypeResult, flags, in.ID, head, m.Body)
	if len(sizes) == 0 {
		c.forget(in)
		c.mu.Unlock()
		return nil
	}
	c.mu.Unlock()
	err := in.outlet().attachments(in.ctx, m.Attachments)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case in.gone:
		return nil
	case err != nil && in.ctx.Err() != nil:
		return status.New(status.Canceled, op, "the call was canceled while attachments were sent")
	case err != nil:
		return err
	}
	c.forget(in)
	return nil
}

// refuse answers with an error and forgets the call.
func (c *Conn) refuse(in *Inbound, err error) {
	payload := errorPayload(err, c.limit())
	c.mu.Lock()
	defer c.mu.Unlock()
	if !in.gone {
		c.w.push(TypeError, 0, in.ID, nil, payload)
		c.forget(in)
	}
}

// forget drops a call from the table. c.mu is held.
func (c *Conn) forget(in *Inbound) {
	delete(c.inbound, in.ID)
	in.drop()
	c.finishIfDrained()
}

// drop frees what a call that will not be answered any more holds. The Conn's mutex is held.
func (in *Inbound) drop() {
	in.gone = true
	if in.intake != nil {
		in.intake.abort()
		in.intake = nil
	}
	in.out.wakeAll()
}

func (c *Conn) limit() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.maxFrame
}
