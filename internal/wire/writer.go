package wire

import (
	"context"
	"io"
	"net"
	"sync"
)

const (
	// copyLimit is up to where a body is copied into the batch; a longer one is written from
	// where it is. Copying that much costs less than one more element of a writev.
	copyLimit = 16 << 10
	// frameBacklog is how many bytes may wait for the socket before a new call or result waits too.
	frameBacklog = 4 << 20
	// chunkBacklog is the same for chunks. It is lower, so that a call is never behind more than
	// this much of other streams' attachments.
	chunkBacklog = 512 << 10
	// controlBacklog bounds what the reader makes us send (PONG, CREDIT, ERROR, …) to a peer that
	// does not read: no honest peer comes near it.
	controlBacklog = 64 << 20
	// keepBatch is the largest batch buffer that is kept for reuse.
	keepBatch = 1 << 20
)

// writer queues frames; its loop writes all that is queued at once. Frames never block on the
// socket: those who produce data wait for room first.
type writer struct {
	dst   io.Writer
	ended chan struct{} // closed when the loop has ended

	mu       sync.Mutex
	wake     sync.Cond     // the loop waits on it for work
	batch    []byte        // headers and small payloads, back to back
	inserts  []insert      // long payloads, and where in the batch each belongs
	spare    []byte        // the batch before, for reuse
	spareIn  []insert      // its inserts, for reuse
	backlog  int           // bytes queued or being written
	control  int           // the part of them that nobody waited for
	most     int           // of control; controlBacklog
	queued   uint64        // bytes queued since the start
	written  uint64        // bytes that the socket has taken
	room     chan struct{} // closed when the backlog has shrunk; nil when nobody waits
	finished bool          // write what is queued, then end
	stopped  bool          // end now; nothing is taken any more
}

type insert struct {
	at   int
	data []byte
}

func newWriter(dst io.Writer) *writer {
	w := &writer{dst: dst, ended: make(chan struct{}), most: controlBacklog}
	w.wake.L = &w.mu
	return w
}

// push queues one frame whose payload is head and body; head is copied. It returns the
// position of the frame's end in the byte stream, and false if nothing is taken any more.
func (w *writer) push(t Type, flags uint8, stream uint64, head, body []byte) (uint64, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pushLocked(t, flags, stream, head, body)
}

func (w *writer) pushLocked(t Type, flags uint8, stream uint64, head, body []byte) (uint64, bool) {
	if w.stopped || w.finished {
		return 0, false
	}
	size := len(head) + len(body)
	w.batch = AppendHeader(w.batch, Header{Type: t, Flags: flags, Length: uint32(size), Stream: stream})
	w.batch = append(w.batch, head...)
	if len(body) <= copyLimit {
		w.batch = append(w.batch, body...)
	} else {
		w.inserts = append(w.inserts, insert{at: len(w.batch), data: body})
	}
	size += HeaderSize
	if w.backlog == 0 {
		w.wake.Signal()
	}
	w.backlog += size
	w.queued += uint64(size)
	return w.queued, true
}

// pushControl is push for frames that the reader causes. It is also false when the peer has let
// too many of them pile up.
func (w *writer) pushControl(t Type, stream uint64, payload []byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.control > w.most {
		return false
	}
	w.control += HeaderSize + len(payload)
	_, ok := w.pushLocked(t, 0, stream, nil, payload)
	return ok
}

// waitRoom returns when fewer than limit bytes wait for the socket or the writer has stopped,
// and with an error when ctx has ended.
func (w *writer) waitRoom(ctx context.Context, limit int) error {
	for {
		w.mu.Lock()
		if w.backlog < limit || w.stopped {
			w.mu.Unlock()
			return nil
		}
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// run writes until it is told to end or a write fails.
func (w *writer) run() error {
	defer close(w.ended)
	var vector [][]byte
	for {
		w.mu.Lock()
		for w.backlog == 0 && !w.finished && !w.stopped {
			w.wake.Wait()
		}
		if w.stopped || w.backlog == 0 {
			w.stopLocked()
			w.mu.Unlock()
			return nil
		}
		batch, inserts, size, control := w.batch, w.inserts, w.backlog, w.control
		w.batch, w.inserts = w.spare[:0], w.spareIn[:0]
		w.mu.Unlock()

		var n int64
		var err error
		if len(inserts) == 0 {
			var m int
			m, err = w.dst.Write(batch)
			n = int64(m)
		} else {
			vector = gather(vector[:0], batch, inserts)
			buffers := net.Buffers(vector)
			n, err = buffers.WriteTo(w.dst)
			clear(vector)
			clear(inserts)
		}

		w.mu.Lock()
		w.written += uint64(max(n, 0))
		w.backlog -= size
		w.control -= control
		if cap(batch) <= keepBatch {
			w.spare = batch
		} else {
			w.spare = nil
		}
		w.spareIn = inserts
		if err != nil {
			w.stopLocked()
			w.mu.Unlock()
			return err
		}
		w.releaseLocked()
		w.mu.Unlock()
	}
}

// gather lists the pieces of a batch in order.
func gather(vector [][]byte, batch []byte, inserts []insert) [][]byte {
	at := 0
	for _, in := range inserts {
		vector = append(vector, batch[at:in.at], in.data)
		at = in.at
	}
	if at < len(batch) {
		vector = append(vector, batch[at:])
	}
	return vector
}

// finish makes the loop end when all that is queued has been written.
func (w *writer) finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.finished = true
	w.wake.Signal()
}

// stop makes the loop end after the write it is in.
func (w *writer) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopLocked()
	w.wake.Signal()
}

func (w *writer) stopLocked() {
	w.stopped = true
	w.batch, w.inserts = nil, nil
	w.releaseLocked()
}

func (w *writer) releaseLocked() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// closed tells whether nothing is taken any more.
func (w *writer) closed() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.stopped || w.finished
}

// taken returns how many bytes the socket has taken.
func (w *writer) taken() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.written
}
