package wire

import (
	"bytes"
	"io"
)

// liar is an attachment that has other bytes than its size says.
type liar struct {
	size int64
	data []byte
	err  error
}

func (l liar) Size() int64 { return l.size }

func (l liar) Open() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), l.err
}
