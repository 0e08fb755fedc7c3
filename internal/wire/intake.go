package wire

import "sync"

// intake collects the attachments of one message while they arrive. Small ones are read straight
// into memory. Large ones are handed to a goroutine that writes them to a file, so that a slow
// disk holds up no other stream; what waits for it is bounded by the stream's credit.
type intake struct {
	sizes []int64
	total int64
	got   int64 // counted by the reader
	store *store

	mu      sync.Mutex
	wake    sync.Cond
	queue   [][]byte // for the file
	aborted bool
}

func newIntake(sizes []int64) *intake {
	in := &intake{sizes: sizes, total: sum(sizes), store: &store{}}
	in.wake.L = &in.mu
	return in
}

func (in *intake) spills() bool { return in.total > spillAbove }

func (in *intake) complete() bool { return in.got == in.total }

// grow returns the place in memory for the next n bytes.
func (in *intake) grow(n int) []byte {
	data := in.store.data
	have := len(data)
	if have+n > cap(data) {
		// Memory follows what has arrived, not what was announced.
		capacity := min(int(in.total), max(2*cap(data), have+n, eagerPayload))
		bigger := make([]byte, have, capacity)
		copy(bigger, data)
		data = bigger
	}
	in.store.data = data[:have+n]
	return in.store.data[have:]
}

// put queues bytes for the file.
func (in *intake) put(b []byte) {
	in.mu.Lock()
	defer in.mu.Unlock()
	if in.aborted {
		return
	}
	in.queue = append(in.queue, b)
	in.wake.Signal()
}

// abort says that the message is not wanted any more; writeFile ends and frees the file. What is
// in memory is the reader's until it lets go of the intake.
func (in *intake) abort() {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.aborted = true
	in.queue = nil
	in.wake.Signal()
}

// writeFile writes the queued bytes to the file until all are written or the intake is aborted;
// wrote is told of each write and gets the buffer back. It is true if all were written.
func (in *intake) writeFile(dir string, wrote func([]byte)) (bool, error) {
	err := in.store.spill(dir)
	var done int64
	for err == nil && done < in.total {
		in.mu.Lock()
		for len(in.queue) == 0 && !in.aborted {
			in.wake.Wait()
		}
		queue, aborted := in.queue, in.aborted
		in.queue = nil
		in.mu.Unlock()
		if aborted {
			break
		}
		for _, b := range queue {
			if _, err = in.store.file.Write(b); err != nil {
				break
			}
			done += int64(len(b))
			wrote(b)
		}
	}
	if err != nil || done < in.total {
		in.store.release()
		return false, err
	}
	return true, nil
}
