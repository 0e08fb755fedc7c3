package wire

// sendFlow is the credit that the peer has granted on one stream. The Conn's mutex guards it.
type sendFlow struct {
	credit int64
	wait   chan struct{} // closed when credit comes or the stream ends; nil when nobody waits
}

func (f *sendFlow) grant(n int64) {
	f.credit += n
	f.wakeAll()
}

func (f *sendFlow) wakeAll() {
	if f.wait != nil {
		close(f.wait)
		f.wait = nil
	}
}

// waiter returns the channel that is closed when it is worth looking again.
func (f *sendFlow) waiter() <-chan struct{} {
	if f.wait == nil {
		f.wait = make(chan struct{})
	}
	return f.wait
}

// recvFlow is the credit that the peer has left on one stream. The Conn's mutex guards it.
type recvFlow struct {
	credit int64 // what the peer may still send
	used   int64 // consumed here and not yet granted again
}

// arrived counts a chunk's bytes. It is false if the peer had no credit.
func (f *recvFlow) arrived(n int) bool {
	if f.credit <= 0 {
		return false
	}
	f.credit -= int64(n)
	return true
}

// consumed counts bytes that need no memory any more and returns how much credit to grant now:
// nothing until it is half a window, so that credit costs few frames.
func (f *recvFlow) consumed(n, window int) int64 {
	f.used += int64(n)
	if f.used < max(1, int64(window)/2) {
		return 0
	}
	grant := f.used
	f.used = 0
	f.credit += grant
	return grant
}
