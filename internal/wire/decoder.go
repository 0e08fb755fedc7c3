package wire

import (
	"bufio"
	"errors"
	"io"
)

const (
	// readBuffer lets one read take in many small frames.
	readBuffer = 64 << 10
	// eagerPayload is how much memory is taken on the mere word of a header; a longer payload
	// gets its memory as its bytes arrive.
	eagerPayload = 1 << 20
)

// Decoder cuts a byte stream into frames. Each Next is followed by at most one of Payload, Into
// and Drop; a payload that nobody asked for is skipped by the following Next. It is not safe for
// concurrent use.
type Decoder struct {
	r        *bufio.Reader
	maxFrame int
	left     int // bytes of the current payload not yet read
}

// NewDecoder returns a Decoder for r that accepts payloads of up to maxFrame bytes.
func NewDecoder(r io.Reader, maxFrame int) *Decoder {
	return &Decoder{r: bufio.NewReaderSize(r, readBuffer), maxFrame: maxFrame}
}

// Next returns the next frame's header. The frame is oversized when its payload is longer than
// the limit: it can only be skipped. The error is io.EOF at the end of the stream, a
// *ProtocolError when it breaks the protocol or ends inside a frame, or the reader's own.
func (d *Decoder) Next() (h Header, oversized bool, err error) {
	if err := d.Drop(); err != nil {
		return Header{}, false, err
	}
	b, err := d.r.Peek(HeaderSize)
	if err != nil {
		if len(b) == 0 {
			return Header{}, false, err
		}
		return Header{}, false, truncated(err, HeaderSize-len(b))
	}
	if h, err = ParseHeader(b); err != nil {
		return Header{}, false, err
	}
	if _, err := d.r.Discard(HeaderSize); err != nil {
		return Header{}, false, err
	}
	d.left = int(h.Length)
	return h, d.left > d.maxFrame, nil
}

// Payload returns the rest of the current payload in memory of its own.
func (d *Decoder) Payload() ([]byte, error) {
	if d.left == 0 {
		return nil, nil
	}
	payload := make([]byte, min(d.left, eagerPayload))
	if err := d.Into(payload); err != nil {
		return nil, err
	}
	for d.left > 0 {
		have := len(payload)
		payload = append(payload, make([]byte, min(d.left, have))...) //nolint:makezero // what is there has been read
		if err := d.Into(payload[have:]); err != nil {
			return nil, err
		}
	}
	return payload, nil
}

// Into fills dst, which is not longer than the rest of the current payload.
func (d *Decoder) Into(dst []byte) error {
	n, err := io.ReadFull(d.r, dst)
	d.left -= n
	if err != nil {
		return truncated(err, d.left)
	}
	return nil
}

// Drop skips the rest of the current payload.
func (d *Decoder) Drop() error {
	if d.left == 0 {
		return nil
	}
	n, err := d.r.Discard(d.left)
	d.left -= n
	if err != nil {
		return truncated(err, d.left)
	}
	return nil
}

// truncated turns an end of the stream inside a frame into the fault that it is.
func truncated(err error, missing int) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return faultf(FaultTruncated, "the stream ended inside a frame, %d bytes are missing", missing)
	}
	return err
}
