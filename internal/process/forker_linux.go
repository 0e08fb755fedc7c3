package process

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/dspex/dspex/internal/status"
)

const (
	// maxControl is the longest control message in bytes, as in forkserver.py.
	maxControl = 1 << 17
	// forkBound is how long one fork may take before the fork server counts as stuck; a
	// fork takes a millisecond or two, so only a stopped or thrashing one needs longer.
	forkBound = 10 * time.Second
	// sendBound is how long a fork server that does not read may hold up its callers; hundreds
	// of messages are queued before it does.
	sendBound = time.Second
	// exitUnarmed is the exit status of a fork server that cannot arm its lifeline; see
	// bootstrap.py.
	exitUnarmed = 76
	// boardSize is the size of the shared page; see Board in forkserver.py.
	boardSize = 4096
)

// errForkerLost means that the fork server ended before it made the worker.
var errForkerLost = errors.New("the fork server has ended")

func canFork() bool { return true }

// forker is one running fork server.
type forker struct {
	proc  *Process
	conn  *net.UnixConn
	board *os.File      // page on which the kernel notes each fork
	lost  chan struct{} // closed when the fork server no longer answers
	wg    sync.WaitGroup

	mu      sync.Mutex // guards all below
	next    int64
	pending map[int64]chan<- forkReply
	ended   bool
}

type forkReply struct {
	ID    int64  `json:"id"`
	PID   int    `json:"pid"`
	Error string `json:"error"`
	// orphan means that the fork server ended without saying so itself.
	orphan bool
}

type readyMessage struct {
	Ready   bool     `json:"ready"`
	Threads []string `json:"threads"`
	Sockets []string `json:"sockets"`
	Python  string   `json:"python"`
	Seconds float64  `json:"seconds"`
}

type forkRequest struct {
	Op      string            `json:"op"`
	ID      int64             `json:"id"`
	Worker  string            `json:"worker,omitempty"`
	Env     map[string]string `json:"env"`
	Options map[string]any    `json:"options"`
}

// startForker starts a fork server and waits until it is ready. It returns a *refusedError
// when the process works but must not be forked.
func startForker(ctx context.Context, o ServerOptions) (*forker, error) {
	c, err := o.Python.command("forkserver", map[string]any{
		"control": firstFD,
		"board":   firstFD + 1,
		"main":    o.Main,
		"warm":    o.Warm,
		"preload": o.Preload,
	})
	if err != nil {
		return nil, err
	}
	c.ID, c.OnLine, c.Env = "forkserver", o.OnLine, serverEnvironment(o)
	board, err := newBoard()
	if err != nil {
		return nil, status.Wrap(status.Unavailable, "start", err, "cannot share a page with the fork server: %v", err)
	}
	conn, theirs, err := socketPair(unix.SOCK_SEQPACKET)
	if err != nil {
		_ = board.Close()
		return nil, status.Wrap(status.Unavailable, "start", err, "cannot make a socket for the fork server: %v", err)
	}
	f := &forker{
		conn:    conn,
		board:   board,
		lost:    make(chan struct{}),
		pending: map[int64]chan<- forkReply{},
	}
	f.proc, err = launch(ctx, c, launchOptions{arm: true, pass: []int{theirs, int(board.Fd())}})
	_ = unix.Close(theirs)
	if err != nil {
		_ = f.conn.Close()
		_ = board.Close()
		return nil, err
	}
	if err := f.ready(ctx); err != nil {
		close(f.lost)
		f.close()
		return nil, err
	}
	f.wg.Go(f.receive)
	return f, nil
}

func newBoard() (*os.File, error) {
	fd, err := unix.MemfdCreate("dspex-forks", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("memfd_create", err)
	}
	file := os.NewFile(uintptr(fd), "dspex-forks")
	if err := file.Truncate(boardSize); err != nil {
		_ = file.Close()
		return nil, err
	}
	return file, nil
}

// ready waits for the fork server's first message.
func (f *forker) ready(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = f.conn.SetReadDeadline(time.Unix(1, 0)) })
	buf := make([]byte, maxControl)
	n, err := f.conn.Read(buf)
	if !stop() && err == nil { // the deadline is set now, or will be
		err = context.Cause(ctx)
	}
	if err != nil {
		if ctx.Err() != nil {
			e := status.FromContext(ctx, "start", "the fork server was still importing")
			f.proc.Kill()
			<-f.proc.Done()
			e.Python = pythonError(f.proc.Tail())
			return e
		}
		// It closed its socket: it is ending. One that hangs on the way is helped.
		timer := time.AfterFunc(time.Second, f.proc.Kill)
		defer timer.Stop()
		<-f.proc.Done()
		if f.proc.Exit().Code == exitUnarmed {
			return &refusedError{lastLine(f.proc.Tail())}
		}
		return f.proc.Failure("start", "fork server")
	}
	var message readyMessage
	if err := json.Unmarshal(buf[:n], &message); err != nil || !message.Ready {
		return status.Wrap(status.Internal, "start", err, "the fork server's first message cannot be read: %.100q", buf[:n])
	}
	if refusal := refuse(message.Threads, message.Sockets); refusal != nil {
		return refusal
	}
	return nil
}

// receive hands out replies until the fork server is gone.
func (f *forker) receive() {
	buf := make([]byte, maxControl)
	for {
		n, err := f.conn.Read(buf)
		if err != nil {
			break
		}
		var reply forkReply
		if json.Unmarshal(buf[:n], &reply) != nil {
			break
		}
		f.settle(reply)
	}
	// Nothing can be made any more once the process is gone; what it made last is on the board.
	f.proc.Kill()
	<-f.proc.Done()
	if id, pid := f.last(); pid != 0 {
		f.settle(forkReply{ID: id, PID: pid, orphan: true})
	}
	f.mu.Lock()
	f.ended = true
	for id, reply := range f.pending {
		close(reply)
		delete(f.pending, id)
	}
	f.mu.Unlock()
	close(f.lost)
}

func (f *forker) settle(reply forkReply) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if waiter, ok := f.pending[reply.ID]; ok {
		waiter <- reply
		delete(f.pending, reply.ID)
	}
}

// last reads from the board which request the last fork was for, and the child's pid.
func (f *forker) last() (id int64, pid int) {
	var page [16]byte
	if _, err := f.board.ReadAt(page[:], 0); err != nil {
		return 0, 0
	}
	return int64(binary.NativeEndian.Uint64(page[8:])), int(int32(binary.NativeEndian.Uint32(page[:])))
}

// worker has a worker forked. It returns errForkerLost when the fork server ended first,
// and then no process is left. It cannot be interrupted, but a fork server that does not answer is killed.
func (f *forker) worker(o WorkerOptions) (*Process, error) {
	p := &Process{
		id:     o.ID,
		path:   f.proc.path,
		output: &capture{tail: newTail(o.TailLines), onLine: o.OnLine},
		done:   make(chan struct{}),
	}
	var e ends
	defer e.close()
	if err := p.plumb(&e, true, true); err != nil {
		return nil, startError(Command{ID: o.ID}, p.path, err)
	}
	request := forkRequest{Op: "fork", Worker: o.ID, Options: o.Options, Env: map[string]string{}}
	for _, v := range o.Env {
		if name, value, ok := strings.Cut(v, "="); ok {
			request.Env[name] = value
		}
	}
	reply := make(chan forkReply, 1)
	f.mu.Lock()
	f.next++
	request.ID = f.next
	if !f.ended {
		f.pending[request.ID] = reply
	} else {
		close(reply)
	}
	f.mu.Unlock()
	if err := f.send(request, e.socket, e.line, e.out, e.err, e.stacks); err != nil {
		f.mu.Lock()
		delete(f.pending, request.ID)
		f.mu.Unlock()
		p.abandon()
		return nil, err
	}
	e.close()

	stuck := time.AfterFunc(forkBound, f.proc.Kill)
	r, ok := <-reply
	stuck.Stop()
	if !ok {
		p.abandon()
		return nil, errForkerLost
	}
	if r.Error != "" {
		p.abandon()
		err := status.New(status.Unavailable, "start", "the fork server could not make the worker: %s", r.Error)
		err.Worker, err.Retryable = o.ID, true
		return nil, err
	}
	p.handle, p.pid = adopt(r.PID), r.PID
	go p.supervise(func() { _ = f.send(forkRequest{Op: "gone", ID: request.ID}) })
	if r.orphan {
		// If it had not left the fork server's group yet, it was killed with it.
		p.end()
		return nil, errForkerLost
	}
	return p, nil
}

// send writes one control message. It returns errForkerLost when nobody reads it.
func (f *forker) send(request forkRequest, fds ...int) error {
	text, err := json.Marshal(request)
	if err != nil {
		return status.Wrap(status.InvalidArgument, "start", err, "the options of a worker cannot be encoded: %v", err)
	}
	if len(text) > maxControl {
		return status.New(status.InvalidArgument, "start", "the options and environment of a worker have %d bytes, the limit is %d", len(text), maxControl)
	}
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	_ = f.conn.SetWriteDeadline(time.Now().Add(sendBound))
	if _, _, err := f.conn.WriteMsgUnix(text, rights, nil); err != nil {
		if errors.Is(err, syscall.EMSGSIZE) || errors.Is(err, syscall.ETOOMANYREFS) {
			return status.Wrap(status.Unavailable, "start", err, "the fork server cannot be asked: %v", err)
		}
		return errForkerLost
	}
	return nil
}

// close ends the fork server, and returns when nothing of it is left. Its workers run on.
func (f *forker) close() {
	f.proc.Kill()
	<-f.proc.Done()
	_ = f.conn.Close()
	f.wg.Wait()
	_ = f.board.Close()
}
