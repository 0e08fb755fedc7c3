package wire

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
)

// spillAbove is up to where a message's attachments are kept in memory; more goes to a file.
const spillAbove = 8 << 20

// errReleased is the error of an attachment that is used after its Message's Release.
var errReleased = errors.New("wire: the attachment was released")

// store holds the bytes of one message's attachments, back to back, in memory or in a file.
type store struct {
	mu       sync.Mutex
	released bool
	data     []byte
	file     *os.File
	path     string // of the file, where it could not be unlinked while open
}

// part is one attachment in a store.
type part struct {
	store  *store
	offset int64
	size   int64
}

// Size returns the length.
func (p *part) Size() int64 { return p.size }

// Open returns a reader of the attachment.
func (p *part) Open() (io.ReadCloser, error) {
	p.store.mu.Lock()
	defer p.store.mu.Unlock()
	switch {
	case p.store.released:
		return nil, errReleased
	case p.store.file != nil:
		return io.NopCloser(io.NewSectionReader(p.store.file, p.offset, p.size)), nil
	default:
		return io.NopCloser(bytes.NewReader(p.store.data[p.offset : p.offset+p.size])), nil
	}
}

// parts cuts the store into attachments.
func (s *store) parts(sizes []int64) []Attachment {
	attachments := make([]Attachment, len(sizes))
	var offset int64
	for i, size := range sizes {
		attachments[i] = &part{store: s, offset: offset, size: size}
		offset += size
	}
	return attachments
}

// spill creates the file. It is unlinked at once where the system allows that.
func (s *store) spill(dir string) error {
	file, err := os.CreateTemp(dir, "dspex-attachment-")
	if err != nil {
		return fmt.Errorf("cannot create a file for attachments: %w", err)
	}
	path := file.Name()
	if os.Remove(path) == nil {
		path = ""
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.file, s.path = file, path
	return nil
}

func (s *store) release() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.released {
		return
	}
	s.released = true
	s.data = nil
	if s.file == nil {
		return
	}
	// The file was only ever scratch: an error of closing or removing it loses nothing.
	_ = s.file.Close()
	if s.path != "" {
		_ = os.Remove(s.path)
	}
	s.file = nil
}
