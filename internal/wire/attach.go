package wire

import (
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/dspex/dspex/internal/status"
)

// attachmentChunk is how many bytes of attachments travel in one frame: long enough that frames
// cost little, short enough that others get their turn.
const attachmentChunk = 128 << 10

// errGone says that the peer wants nothing more on the stream.
var errGone = errors.New("wire: the stream has ended")

// outlet is where one side of a stream sends its chunks.
type outlet struct {
	c    *Conn
	id   uint64
	flow *sendFlow
	// closed tells, with the Conn's mutex held, whether the stream takes no more chunks.
	closed func() bool
}

// chunk sends one CHUNK when fewer than backlog bytes wait for the socket and the stream has
// credit. Its payload is copied and kept: kept must not be changed. The error is errGone when the
// stream takes no more, and ctx's when that ends first.
func (o outlet) chunk(ctx context.Context, flags uint8, copied, kept []byte, backlog int) error {
	c, length := o.c, len(copied)+len(kept)
	for {
		if err := c.w.waitRoom(ctx, backlog); err != nil {
			return err
		}
		c.mu.Lock()
		switch {
		case c.err != nil || o.closed():
			c.mu.Unlock()
			return errGone
		case length > c.maxFrame:
			limit := c.maxFrame
			c.mu.Unlock()
			return tooLong("item", length, limit)
		case o.flow.credit > 0:
			// Taken and queued in one step: chunks travel in the order in which they took credit.
			o.flow.credit -= int64(length)
			_, ok := c.w.push(TypeChunk, flags, o.id, copied, kept)
			c.mu.Unlock()
			if !ok {
				return errGone
			}
			return nil
		}
		wait := o.flow.waiter()
		c.mu.Unlock()
		select {
		case <-wait:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// attachments sends the bytes of all attachments.
func (o outlet) attachments(ctx context.Context, attachments []Attachment) error {
	size := min(attachmentChunk, o.c.limit())
	for i, a := range attachments {
		var err error
		if b, ok := a.(Bytes); ok {
			err = o.bytes(ctx, b, size)
		} else {
			err = o.reader(ctx, a, size)
		}
		if e, ok := errors.AsType[*status.Error](err); ok {
			e.Message = fmt.Sprintf("attachment %d: %s", i, e.Message)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (o outlet) bytes(ctx context.Context, b []byte, size int) error {
	for len(b) > 0 {
		n := min(len(b), size)
		if err := o.chunk(ctx, FlagAttachments, nil, b[:n], chunkBacklog); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

func (o outlet) reader(ctx context.Context, a Attachment, size int) error {
	left := a.Size()
	if left == 0 {
		return nil
	}
	r, err := a.Open()
	if err != nil {
		return status.Wrap(status.InvalidArgument, op, err, "it cannot be opened: %v", err)
	}
	defer func() { _ = r.Close() }() // only read from
	buffer := make([]byte, min(left, int64(size)))
	for left > 0 {
		b := buffer[:min(left, int64(len(buffer)))]
		if _, err := io.ReadFull(r, b); err != nil {
			text := "it cannot be read to its end, of %d bytes at most %d are missing: %v"
			return status.Wrap(status.InvalidArgument, op, err, text, a.Size(), left, err)
		}
		if err := o.chunk(ctx, FlagAttachments, b, nil, chunkBacklog); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	return nil
}

// consumedLocked grants credit for bytes that were consumed. c.mu is held.
func (c *Conn) consumedLocked(id uint64, flow *recvFlow, n int, settled bool) {
	grant := flow.consumed(n, c.o.Window)
	if grant > 0 && !settled && c.err == nil {
		c.w.pushControl(TypeCredit, id, creditPayload(grant))
	}
}
