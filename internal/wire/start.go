package wire

import (
	"context"
	"errors"

	"github.com/dspex/dspex/internal/status"
)

// StartOption changes how a call is made.
type StartOption func(*Stream)

// WithHandler serves the calls that the peer makes on behalf of this call. Their context derives
// from the one given to Start; it ends when this call is settled or canceled.
func WithHandler(h Handler) StartOption {
	return func(s *Stream) { s.handler = h }
}

// WithParent makes the call on behalf of a call of the peer's: the Inbound's ID.
func WithParent(stream uint64) StartOption {
	return func(s *Stream) { s.parent = stream }
}

// Start sends a call. It returns when all of the message is queued, attachments included, which
// waits for the socket and for the peer's credit; or when the peer has settled the call before
// that. When ctx ends first the call is canceled. ctx does not end a call that was started:
// Result and Cancel do.
//
// Errors: InvalidArgument for a message that cannot be sent (nothing was sent); WorkerLost or
// Unavailable with ErrNotSent; Canceled and DeadlineExceeded.
func (c *Conn) Start(ctx context.Context, method string, m Message, options ...StartOption) (*Stream, error) {
	s := &Stream{c: c, ctx: ctx, done: make(chan struct{})}
	for _, option := range options {
		option(s)
	}
	sizes, err := c.checkMessage(method, m)
	if err != nil {
		return nil, err
	}
	if ctx.Err() != nil {
		return nil, status.FromContext(ctx, op, "the call was not sent")
	}
	if c.w.waitRoom(ctx, frameBacklog) != nil {
		return nil, status.FromContext(ctx, op, "the call was not sent")
	}
	if err := c.open(s, method, m.Body, sizes); err != nil {
		return nil, err
	}
	if len(m.Attachments) == 0 {
		return s, nil
	}
	if err := s.outlet().attachments(ctx, m.Attachments); err != nil {
		return s.broken(ctx, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	s.whole = true
	return s, nil
}

// broken ends a call whose attachments could not all be sent.
func (s *Stream) broken(ctx context.Context, err error) (*Stream, error) {
	c := s.c
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.err != nil:
		return nil, c.lostError(c.err, true)
	case errors.Is(err, errGone): // the peer has answered already: Result tells
		return s, nil
	}
	s.cancelLocked(err)
	s.abandonLocked()
	if ctx.Err() != nil {
		return nil, status.FromContext(ctx, op, "the call was canceled while its attachments were sent")
	}
	return nil, err
}

// Call makes a call and waits for its result: Start and Result in one.
func (c *Conn) Call(ctx context.Context, method string, m Message, options ...StartOption) (Message, error) {
	s, err := c.Start(ctx, method, m, options...)
	if err != nil {
		return Message{}, err
	}
	return s.Result(ctx)
}

// checkMessage returns the attachments' sizes.
func (c *Conn) checkMessage(method string, m Message) ([]int64, error) {
	if method == "" || len(method) > maxMethod {
		return nil, status.New(status.InvalidArgument, op, "a method name has 1 to %d bytes, not %d", maxMethod, len(method))
	}
	for i := range len(method) {
		if method[i] >= 0x80 {
			return nil, status.New(status.InvalidArgument, op, "the method name %q is not ASCII", method)
		}
	}
	return c.checkAttachments(m.Attachments)
}

func (c *Conn) checkAttachments(attachments []Attachment) ([]int64, error) {
	if len(attachments) > maxAttachments {
		return nil, status.New(status.InvalidArgument, op, "%d attachments are over the limit of %d", len(attachments), maxAttachments)
	}
	sizes := sizesOf(attachments)
	switch total := sum(sizes); {
	case total < 0:
		return nil, status.New(status.InvalidArgument, op, "an attachment has a negative size")
	case total > c.o.MaxAttachments:
		return nil, attachmentsTooLong(total, c.o.MaxAttachments)
	}
	return sizes, nil
}

func attachmentsTooLong(total, limit int64) *status.Error {
	return status.New(status.InvalidArgument, op, "attachments of %d bytes are over the limit of %d bytes", total, limit)
}

// open registers the stream and queues its CALL.
func (c *Conn) open(s *Stream, method string, body []byte, sizes []int64) error {
	var room [64]byte
	head := AppendCallHead(room[:0], method, s.parent, sizes)
	var flags uint8
	if len(sizes) > 0 {
		flags = FlagAttachments
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	if c.draining || c.drained && s.parent == 0 {
		return status.Wrap(status.Unavailable, op, ErrNotSent, "the connection is draining")
	}
	if length := len(head) + len(body); length > c.maxFrame {
		return tooLong("call", length, c.maxFrame)
	}
	s.id = c.nextID
	end, ok := c.w.push(TypeCall, flags, s.id, head, body)
	if !ok {
		return status.Wrap(status.WorkerLost, op, ErrNotSent, "the connection to the %v is being lost", c.o.Side.peer())
	}
	c.nextID += 2
	s.end, s.whole = end, len(sizes) == 0
	s.out.credit, s.in.credit = int64(c.peer.Window), int64(c.o.Window)
	c.streams[s.id] = s
	return nil
}
