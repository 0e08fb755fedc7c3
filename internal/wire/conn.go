package wire

import (
	"context"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dspex/dspex/internal/status"
)

const (
	// DefaultMaxFrame is the longest payload where Options say nothing, in bytes.
	DefaultMaxFrame       = 64 << 20
	defaultWindow         = 1 << 20
	defaultMaxAttachments = 1 << 30
	// lastReads is how long the peer's last frames are still read after a write to it has failed:
	// answers that it sent before it died are not lost.
	lastReads = 200 * time.Millisecond
)

// op names this package in its errors.
const op = "wire"

// Options says how a Conn behaves.
type Options struct {
	// Side is the end of the connection that this is. Default Host.
	Side Side
	// Hello is what to tell the peer. Protocol, Role, MaxFrame and Window are filled in.
	Hello Hello
	// MaxFrame is the longest payload in bytes, in both directions; the smaller of both sides' is in
	// force. Default 64 MiB, at least 1 KiB.
	MaxFrame int
	// Window is how many bytes of chunks each stream may receive before they are consumed.
	// Default 1 MiB.
	Window int
	// MaxAttachments is the most bytes of attachments in one message, in both directions.
	// Default 1 GiB.
	MaxAttachments int64
	// Handler serves the peer's calls that have no parent. Nil refuses them.
	Handler Handler
	// Log gets the peer's LOG frames, one after the other: the stream it belongs to (0 for none)
	// and the JSON. It runs on a goroutine of its own; lines that it is too slow for are dropped
	// and counted in a line of their own. Nil drops them all.
	Log func(stream uint64, payload []byte)
	// Panicked is told of every panic in a Handler, on the handler's goroutine. It may be nil.
	Panicked func(method string, value any, stack []byte)
	// TempDir is where attachments above 8 MiB are kept. Default os.TempDir().
	TempDir string
}

// Conn is one connection to a peer: calls in both directions over one byte stream. All of its
// methods are safe for concurrent use.
//
// A Conn owns one goroutine that reads, one that writes, one that delivers LOG frames, one for
// each call of the peer, and one for each large attachment on its way. Close ends them all and
// waits for those that run no code of the user's; Wait waits for the rest.
type Conn struct {
	o  Options
	rw io.ReadWriteCloser
	w  *writer
	d  *Decoder // the reader's

	ctx    context.Context // the parent of the contexts of the peer's parentless calls
	cancel context.CancelCauseFunc

	hello   chan struct{} // closed when the peer's HELLO is in
	done    chan struct{} // closed when the connection is lost
	io      sync.WaitGroup
	user    sync.WaitGroup // goroutines that run the user's code
	log     chan logLine
	dropped atomic.Int64 // log lines that did not fit
	scratch sync.Pool    // *[]byte: chunks on their way to a file

	// The reader's own.
	readDone chan struct{} // closed when it has ended
	accepts  int           // the longest payload since the peer's HELLO, 0 before it
	fixed    [8]byte
	methods  map[string]string // method names seen, so that each is made once

	mu         sync.Mutex
	err        error // why the connection was lost
	peer       Hello
	greeted    bool // our HELLO was sent
	maxFrame   int  // in force since the handshake
	nextID     uint64
	lastPeerID uint64
	streams    map[uint64]*Stream  // our calls that the peer has not settled
	inbound    map[uint64]*Inbound // the peer's calls that we have not answered
	pings      map[uint64]chan struct{}
	pingID     uint64
	draining   bool // we sent DRAIN
	drained    bool // the peer sent DRAIN
	writeErr   error
}

// NewConn starts a connection on rw, whose Close must unblock its Read and Write. The Conn owns
// rw from then on. Handshake must follow before any call.
func NewConn(rw io.ReadWriteCloser, o Options) *Conn {
	if o.Side == 0 {
		o.Side = Host
	}
	if o.MaxFrame == 0 {
		o.MaxFrame = DefaultMaxFrame
	}
	o.MaxFrame = max(o.MaxFrame, minFrame)
	if o.Window <= 0 {
		o.Window = defaultWindow
	}
	if o.MaxAttachments == 0 {
		o.MaxAttachments = defaultMaxAttachments
	}
	if o.TempDir == "" {
		o.TempDir = os.TempDir()
	}
	o.Hello.Protocol, o.Hello.Role = Version, o.Side.String()
	o.Hello.MaxFrame, o.Hello.Window = o.MaxFrame, o.Window
	if o.Hello.Capabilities == nil {
		o.Hello.Capabilities = []string{}
	}
	c := &Conn{
		o:        o,
		rw:       rw,
		w:        newWriter(rw),
		d:        NewDecoder(rw, o.MaxFrame),
		hello:    make(chan struct{}),
		done:     make(chan struct{}),
		readDone: make(chan struct{}),
		log:      make(chan logLine, logQueue),
		nextID:   o.Side.firstID(),
		streams:  make(map[uint64]*Stream),
		inbound:  make(map[uint64]*Inbound),
		pings:    make(map[uint64]chan struct{}),
		methods:  make(map[string]string),
	}
	c.ctx, c.cancel = context.WithCancelCause(context.Background())
	c.io.Go(c.write)
	c.io.Go(c.read)
	if o.Log != nil {
		c.user.Go(c.deliverLogs)
	}
	return c
}

// Ping asks the peer for a sign of life and returns how long it took.
func (c *Conn) Ping(ctx context.Context) (time.Duration, error) {
	c.mu.Lock()
	if err := c.usable(); err != nil {
		c.mu.Unlock()
		return 0, err
	}
	c.pingID++
	id := c.pingID
	pong := make(chan struct{})
	c.pings[id] = pong
	start := time.Now()
	c.w.push(TypePing, 0, 0, nil, pingPayload(id))
	c.mu.Unlock()
	select {
	case <-pong:
		return time.Since(start), nil
	case <-c.done:
		return 0, c.Err()
	case <-ctx.Done():
		c.mu.Lock()
		delete(c.pings, id)
		c.mu.Unlock()
		return 0, status.FromContext(ctx, op, "the "+c.o.Side.peer().String()+" did not answer a ping in time")
	}
}

// Drain tells the peer that we open no new streams, so that it ends the connection when those
// that are open are settled. New calls fail with ErrNotSent. A second Drain does nothing.
func (c *Conn) Drain() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	if !c.draining {
		c.draining = true
		c.w.push(TypeDrain, 0, 0, nil, nil)
	}
	return nil
}

// SendLog sends a LOG frame: a line that belongs to a stream, or to none with 0. It waits for the
// socket like a call does.
func (c *Conn) SendLog(ctx context.Context, stream uint64, payload []byte) error {
	if err := c.w.waitRoom(ctx, frameBacklog); err != nil {
		return status.FromContext(ctx, op, "the log line was not sent")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.usable(); err != nil {
		return err
	}
	if len(payload) > c.maxFrame {
		return tooLong("log line", len(payload), c.maxFrame)
	}
	c.w.push(TypeLog, 0, stream, nil, payload)
	return nil
}

// Pending returns how many of our calls the peer has not settled.
func (c *Conn) Pending() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.streams)
}

// Done returns a channel that is closed when the connection is lost or closed.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err returns why the connection was lost: a *status.Error of code WorkerLost (its cause is a
// *ProtocolError if the peer broke the protocol, a *RemoteError if the peer said why it ends the
// connection), or Closed after Close or a finished drain. It is
// nil before Done.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection at once: calls in flight fail, the contexts of handlers are canceled,
// and what was not yet written is dropped. It waits for the goroutines that run no user code, so
// a Handler may call it. It may be called more than once, also concurrently; it returns nil.
func (c *Conn) Close() error {
	c.lose(status.New(status.Closed, op, "the connection was closed"))
	c.io.Wait()
	return nil
}

// Wait returns when every handler has returned and the last log line was delivered, after the
// connection is lost, or when ctx ends. A Handler must not call it.
func (c *Conn) Wait(ctx context.Context) error {
	returned := make(chan struct{})
	go func() { // ends with the handlers, which is what it waits for
		defer close(returned)
		<-c.done
		c.io.Wait()
		c.user.Wait()
	}()
	select {
	case <-returned:
		return nil
	case <-ctx.Done():
		return status.FromContext(ctx, op, "handlers are still running")
	}
}

func tooLong(what string, length, limit int) *status.Error {
	return status.New(status.InvalidArgument, op, "a %s of %d bytes is over the limit of %d bytes", what, length, limit)
}
