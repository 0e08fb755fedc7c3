//go:build unix

package process

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"syscall"
	"time"

	"github.com/dspex/dspex/internal/status"
)

const (
	// stacksBound is how long a process may take to write its stacks. It writes them in a
	// signal handler, so only a stopped process needs longer.
	stacksBound = 200 * time.Millisecond
	// stacksQuiet ends the reading: faulthandler writes a dump without pausing, and marks
	// no end.
	stacksQuiet = 20 * time.Millisecond
	// stacksLimit bounds one dump in bytes; faulthandler writes at most 100 threads of 100
	// frames.
	stacksLimit = 1 << 20
)

// Stacks returns the Python stacks of all threads of the process, most recent call first,
// even while C code holds the GIL. It takes at most 200 ms. The text is empty when the
// process did not answer in time, as a stopped one cannot.
//
// Errors: unsupported when the process is not a Python worker; worker_lost when it has ended.
func (p *Process) Stacks(ctx context.Context) (string, error) {
	p.dump.Lock()
	defer p.dump.Unlock()
	select {
	case <-p.done:
		return "", status.New(status.WorkerLost, "stacks", "the process %s", p.exit)
	default:
	}
	if p.stacks == nil {
		return "", status.New(status.Unsupported, "stacks", "%s is not a Python worker", p.path)
	}
	last := time.Now().Add(stacksBound)
	if d, ok := ctx.Deadline(); ok && d.Before(last) {
		last = d
	}
	discard(p.stacks)
	p.handle.signal(syscall.SIGUSR1)

	var text bytes.Buffer
	buf := make([]byte, 16<<10)
	deadline := last
	for text.Len() < stacksLimit && ctx.Err() == nil {
		_ = p.stacks.SetReadDeadline(deadline)
		n, err := p.stacks.Read(buf)
		text.Write(buf[:n])
		if err != nil {
			if !errors.Is(err, os.ErrDeadlineExceeded) && !errors.Is(err, io.EOF) && !errors.Is(err, os.ErrClosed) {
				return text.String(), status.Wrap(status.Internal, "stacks", err, "cannot read the stacks: %v", err)
			}
			break
		}
		deadline = time.Now().Add(stacksQuiet)
		if deadline.After(last) {
			deadline = last
		}
	}
	return text.String(), nil
}

// discard drops what an earlier dump has left in the pipe.
func discard(f *os.File) {
	conn, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		buf := make([]byte, 16<<10)
		for {
			if n, err := readNow(fd, buf); n <= 0 || err != nil {
				return
			}
		}
	})
}
