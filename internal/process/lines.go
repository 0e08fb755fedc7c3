package process

import (
	"fmt"
	"sync"
)

const (
	// maxLine is how much of one line is passed on. A prompt or a traceback printed in one
	// piece fits; a 10 MB dump does not need to.
	maxLine = 64 << 10
	// maxTailLine is how much of one line is kept for error reports, so that the default
	// tail of a process is bounded by 200 KB.
	maxTailLine = 4 << 10
	// defaultTail is how many lines are kept for error reports: a Python traceback and what
	// led to it.
	defaultTail = 50
)

// splitter cuts a stream into lines in bounded memory: of a line longer than maxLine only
// the beginning is kept, with a mark that tells the length. It is not safe for concurrent use.
type splitter struct {
	emit func(line []byte)
	line []byte
	lost int // bytes of the present line that were not kept
}

// Write takes the next bytes of the stream. It never fails.
func (s *splitter) Write(p []byte) (int, error) {
	n := len(p)
	for len(p) > 0 {
		end := len(p)
		ended := false
		for i, c := range p {
			if c == '\n' {
				end, ended = i, true
				break
			}
		}
		s.keep(p[:end])
		p = p[end:]
		if ended {
			s.flush()
			p = p[1:]
		}
	}
	return n, nil
}

// Close emits a last line that was not ended.
func (s *splitter) Close() {
	if len(s.line) > 0 {
		s.flush()
	}
}

func (s *splitter) keep(p []byte) {
	room := max(maxLine-len(s.line), 0)
	if len(p) > room {
		s.lost += len(p) - room
		p = p[:room]
	}
	s.line = append(s.line, p...)
}

func (s *splitter) flush() {
	line := s.line
	if s.lost > 0 {
		line = appendMark(line, len(line)+s.lost)
	} else if n := len(line); n > 0 && line[n-1] == '\r' {
		line = line[:n-1]
	}
	s.emit(line)
	if cap(s.line) > maxLine/8 { // one long line does not hold its memory for ever
		s.line = nil
	}
	s.line, s.lost = s.line[:0], 0
}

func appendMark(line []byte, length int) []byte {
	return fmt.Appendf(line, "… [cut: the line has %d bytes]", length)
}

// tail keeps the last lines that a process printed, in the order in which they were read.
type tail struct {
	mu    sync.Mutex // guards all below
	lines []tailLine // a ring once full
	next  int        // where the next line goes
	size  int
}

type tailLine struct{ stream, text string }

func newTail(size int) *tail {
	if size <= 0 {
		size = defaultTail
	}
	return &tail{size: size}
}

func (t *tail) add(stream string, line []byte) {
	text := string(line[:min(len(line), maxTailLine)])
	if len(line) > maxTailLine {
		text = string(appendMark([]byte(text), len(line)))
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < t.size {
		t.lines = append(t.lines, tailLine{stream, text})
		return
	}
	t.lines[t.next] = tailLine{stream, text}
	t.next = (t.next + 1) % t.size
}

// of returns the lines of a stream, or of both if stream is empty, oldest first.
func (t *tail) of(stream string) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	found := make([]string, 0, len(t.lines))
	for i := range t.lines {
		if l := t.lines[(t.next+i)%len(t.lines)]; stream == "" || l.stream == stream {
			found = append(found, l.text)
		}
	}
	return found
}
