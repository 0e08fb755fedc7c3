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
//
// When this process dies while the child is dead already, the child's own children are only
// reached if the armed description is still there as the pipe hangs up. The kernel closes
// the descriptors of a dying process in ascending order, but finishes the closing of files in
// the reverse order. So hold must be below write; and write must be above the sockets of all
// children, which end by themselves when theirs is closed, and then let go of the description.
func newLifeline() (*lifeline, int, error) {
	r, w, err := pipe()
	if err != nil {
		return nil, -1, err
	}
	l := &lifeline{write: w, hold: r}
	if l.write, err = duplicate(w, max(r+1, lifelineFloor())); err != nil {
		l.write = w
		return nil, -1, l.abandon(err)
	}
	_ = syscall.Close(w)
	child, err := duplicate(r, 0)
	if err != nil {
		return nil, -1, l.abandon(err)
	}
	return l, child, nil
}

// lifelineFloor is the descriptor above which write ends are: more than most programs have
// open, without making the kernel's table of them large.
func lifelineFloor() int {
	const floor = 4096
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil || limit.Cur >= 2*floor {
		return floor
	}
	return int(limit.Cur / 2)
}

func (l *lifeline) abandon(err error) error {
	l.cut()
	l.release()
	return err
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
