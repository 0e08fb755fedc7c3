package process

import (
	"errors"
	"os"
	"sync"
	"syscall"
	"time"
)

// drainLimit bounds what is still read after a process has ended: as much as a pipe can hold
// under Linux's default limits. It only matters when a descendant outside our reach goes on
// writing.
const drainLimit = 1 << 20

// capture reads the output pipes of one process until they end or finish is called.
type capture struct {
	tail   *tail
	onLine func(stream string, line []byte)
	files  []*os.File
	wg     sync.WaitGroup
}

// read starts to read file as the stream of that name. It takes ownership of file.
func (c *capture) read(stream string, file *os.File) {
	c.files = append(c.files, file)
	c.wg.Go(func() {
		lines := &splitter{emit: func(line []byte) {
			c.tail.add(stream, line)
			if c.onLine != nil {
				c.onLine(stream, line)
			}
		}}
		defer lines.Close()
		buf := make([]byte, 16<<10)
		for {
			n, err := file.Read(buf)
			_, _ = lines.Write(buf[:n])
			if errors.Is(err, os.ErrDeadlineExceeded) {
				drain(file, buf, lines)
				return
			}
			if err != nil {
				return
			}
		}
	})
}

// finish reads what the pipes hold now, and closes them. The process must have ended: all
// that it wrote is in the pipes, and waiting for their end could mean waiting for a
// descendant that has inherited them.
func (c *capture) finish() {
	for _, f := range c.files {
		_ = f.SetReadDeadline(time.Unix(1, 0))
	}
	c.wg.Wait()
	for _, f := range c.files {
		_ = f.Close()
	}
}

// drain reads file without waiting.
func drain(file *os.File, buf []byte, lines *splitter) {
	conn, err := file.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) {
		for total := 0; total < drainLimit; {
			n, err := readNow(fd, buf)
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if n <= 0 || err != nil {
				return
			}
			total += n
			_, _ = lines.Write(buf[:n])
		}
	})
}
