package pyenv

import (
	"bytes"
	"strings"
	"sync"
)

// maxLine bounds what is kept of a line that never ends.
const maxLine = 4096

// lineWriter splits what a program writes on its two streams into lines, passes them on and
// keeps the last.
type lineWriter struct {
	each func(string)

	mu      sync.Mutex // guards what follows; the two streams are copied by two goroutines
	tail    []string
	streams []*lineStream
}

// lineStream is one of the streams.
type lineStream struct {
	owner *lineWriter
	rest  []byte // guarded by owner.mu
}

func (w *lineWriter) stream() *lineStream {
	s := &lineStream{owner: w}
	w.streams = append(w.streams, s)
	return s
}

// Write takes a piece of output; it never fails.
func (s *lineStream) Write(p []byte) (int, error) {
	s.owner.mu.Lock()
	defer s.owner.mu.Unlock()
	s.rest = append(s.rest, p...)
	for {
		i := bytes.IndexAny(s.rest, "\n\r")
		if i < 0 {
			break
		}
		s.owner.line(s.rest[:i])
		s.rest = s.rest[i+1:]
	}
	if len(s.rest) > maxLine {
		s.owner.line(s.rest)
		s.rest = s.rest[:0]
	}
	return len(p), nil
}

func (w *lineWriter) line(b []byte) {
	text := strings.TrimRight(string(b[:min(len(b), maxLine)]), " \t")
	if text == "" {
		return
	}
	w.tail = append(w.tail, text)
	if len(w.tail) > tailLines {
		w.tail = append(w.tail[:0], w.tail[1:]...)
	}
	if w.each != nil {
		w.each(text)
	}
}

// close passes on the unfinished last lines and returns the tail.
func (w *lineWriter) close() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.streams {
		w.line(s.rest)
		s.rest = nil
	}
	return w.tail
}
