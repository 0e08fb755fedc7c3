//go:build unix

package process

import (
	"sync"
	"syscall"
)

// lifeline is this process's side of a child's lifeline.
type lifeline struct {
	mu    sync.Mutex // guards all below; -1 means closed
	write int        // closing it kills the child's group
	hold  int        // duplicate of the read end: keeps the armed description alive
}

// newLifeline returns a lifeline and the read end for the child, which the caller closes.
func newLifeline() (*lifeline, int, error) {
	r, w, err := pipe()
	if err != nil {
		return nil, -1, err
	}
	// The kernel closes the descriptors of a dying process in ascending order. With the
	// duplicate above the write end, the description is still there when the pipe hangs up.
	hold, err := duplicate(r, w+1)
	if err != nil {
		_ = syscall.Close(r)
		_ = syscall.Close(w)
		return nil, -1, err
	}
	return &lifeline{write: w, hold: hold}, r, nil
}

// cut closes the write end. When it returns, the signal was sent to the armed group.
func (l *lifeline) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.write >= 0 {
		_ = syscall.Close(l.write)
		l.write = -1
	}
}

// release lets the duplicate of the read end go.
func (l *lifeline) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hold >= 0 {
		_ = syscall.Close(l.hold)
		l.hold = -1
	}
}
