package wire

import (
	"bytes"
	"io"
)

// Message is what a call carries in either direction. A Message given to a Conn, with the bytes
// of its attachments, must not be changed before its stream is settled.
type Message struct {
	// Body is JSON.
	Body []byte
	// Attachments are raw bytes that travel beside the body, in order.
	Attachments []Attachment
}

// Release frees the attachments of a received Message. They cannot be opened after it, and
// readers that are open may fail. It may be called more than once.
func (m Message) Release() {
	for _, a := range m.Attachments {
		if p, ok := a.(*part); ok {
			p.store.release()
		}
	}
}

// Attachment is raw bytes of a known length.
type Attachment interface {
	// Size returns the length in bytes.
	Size() int64
	// Open returns a new reader of the bytes from their start.
	Open() (io.ReadCloser, error)
}

// Bytes is an Attachment in memory.
type Bytes []byte

// Size returns the length.
func (b Bytes) Size() int64 { return int64(len(b)) }

// Open returns a reader of b.
func (b Bytes) Open() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(b)), nil
}

// sizesOf returns the attachments' sizes, nil for none.
func sizesOf(attachments []Attachment) []int64 {
	if len(attachments) == 0 {
		return nil
	}
	sizes := make([]int64, len(attachments))
	for i, a := range attachments {
		sizes[i] = a.Size()
	}
	return sizes
}
