package worker

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const version = "0.1.0"

// peer is a process that exists only in this program: it speaks the real wire.
type peer struct {
	conn   net.Conn // the host's end
	far    net.Conn // its own end
	wire   *wire.Conn
	done   chan struct{}
	lines  []string
	stacks string
	// deaf makes it ignore everything that it is sent, as a stopped process does.
	deaf chan struct{}
	slow atomic.Int64 // nanoseconds by which it reads everything later

	mu     sync.Mutex
	exit   process.Exit
	once   sync.Once
	puts   []string // hashes of the programs that it was sent
	killed int
}

// script is what a peer does for each method.
type script map[string]wire.Handler

// newPeer returns a peer that is running.
func newPeer(s script) *peer {
	p := &peer{done: make(chan struct{}), deaf: make(chan struct{})}
	p.conn, p.far = net.Pipe()
	p.wire = wire.NewConn(&muffled{Conn: p.far, peer: p}, wire.Options{
		Side:    wire.Worker,
		Hello:   wire.Hello{Version: version, PID: 4711, DSPy: "3.4.1"},
		Handler: p.handler(s),
	})
	return p
}

// muffled is the connection of a peer that reads late, or not any more once it is deaf.
type muffled struct {
	net.Conn
	peer *peer
}

func (m *muffled) Read(b []byte) (int, error) {
	n, err := m.Conn.Read(b)
	if d := m.peer.slow.Load(); d > 0 {
		<-time.After(time.Duration(d))
	}
	select {
	case <-m.peer.deaf:
		<-m.peer.done
		return 0, io.EOF
	default:
		return n, err
	}
}

func (p *peer) handler(s script) wire.Handler {
	return func(ctx context.Context, in *wire.Inbound) (wire.Message, error) {
		if h, ok := s[in.Method]; ok {
			return h(ctx, in)
		}
		switch in.Method {
		case "worker.echo":
			return in.Message, nil
		case "program.put":
			var body struct {
				Hash string `json:"hash"`
			}
			if err := json.Unmarshal(in.Body, &body); err != nil {
				return wire.Message{}, err
			}
			p.mu.Lock()
			p.puts = append(p.puts, body.Hash)
			p.mu.Unlock()
			return wire.Message{Body: []byte("{}")}, nil
		default:
			return wire.Message{}, status.New(status.Unsupported, "", "no method %s", in.Method)
		}
	}
}

// serve makes the peer shake hands, and exit with 0 when the host has drained it.
func (p *peer) serve() {
	go func() {
		_, _ = p.wire.Handshake(context.Background())
		<-p.wire.Done()
		p.end(process.Exit{})
	}()
}

// end makes the process exit.
func (p *peer) end(exit process.Exit) {
	p.once.Do(func() {
		p.mu.Lock()
		p.exit = exit
		p.mu.Unlock()
		_ = p.far.Close()
		close(p.done)
		_ = p.wire.Close()
	})
}

func (p *peer) PID() int              { return 4711 }
func (p *peer) Conn() net.Conn        { return p.conn }
func (p *peer) Done() <-chan struct{} { return p.done }
func (p *peer) Tail() []string        { return p.lines }

func (p *peer) Exit() process.Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

func (p *peer) Kill() {
	p.mu.Lock()
	p.killed++
	p.mu.Unlock()
	p.end(process.Exit{Code: -1, Signal: syscall.SIGKILL, Killed: true})
}

func (p *peer) Stacks(context.Context) (string, error) {
	if p.stacks == "" {
		return "", errors.New("no answer")
	}
	return p.stacks, nil
}

func (p *peer) sent() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return append([]string(nil), p.puts...)
}

func (p *peer) kills() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.killed
}

func options(p *peer) Options {
	return Options{
		ID:      "w1",
		Process: func(context.Context) (Process, error) { return p, nil },
		Hello:   wire.Hello{Version: version},
		Logger:  slog.New(slog.DiscardHandler),
	}
}

// start returns a ready worker that is stopped at the end of the test.
func start(t testing.TB, p *peer, change ...func(*Options)) *Worker {
	t.Helper()
	p.serve()
	o := options(p)
	for _, f := range change {
		f(&o)
	}
	w, err := Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		_ = w.Stop(ctx)
		<-w.Done()
	})
	return w
}

// bubble runs a test in fake time.
func bubble(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) { synctest.Test(t, f) })
}

// block is a handler that returns when its call is canceled.
func block(ctx context.Context, _ *wire.Inbound) (wire.Message, error) {
	<-ctx.Done()
	return wire.Message{}, status.New(status.Canceled, "", "canceled")
}

// gate is a handler that announces itself and waits until it is let through, canceled or not.
type gate struct {
	entered chan struct{}
	open    chan struct{}
}

func newGate() *gate { return &gate{entered: make(chan struct{}, 100), open: make(chan struct{})} }

func (g *gate) handle(context.Context, *wire.Inbound) (wire.Message, error) {
	g.entered <- struct{}{}
	<-g.open
	return wire.Message{Body: []byte(`{"late":true}`)}, nil
}

// failure is a handler that answers an ERROR with the given payload.
func failure(payload string) wire.Handler {
	return func(context.Context, *wire.Inbound) (wire.Message, error) {
		return wire.Message{}, wireError(payload)
	}
}

type wireError string

func (e wireError) Error() string     { return string(e) }
func (e wireError) WireError() []byte { return []byte(e) }

// outcome is what a Run in a goroutine of its own came to.
type outcome struct {
	done    chan struct{}
	settled chan struct{}
	reply   wire.Message
	err     error
	took    time.Duration
}

func run(ctx context.Context, w *Worker, c Call) *outcome {
	o := &outcome{done: make(chan struct{}), settled: make(chan struct{})}
	c.Settled = func() { close(o.settled) } // a second time would panic
	began := time.Now()
	go func() {
		defer close(o.done)
		o.reply, o.err = w.Run(ctx, c)
		o.took = time.Since(began)
	}()
	return o
}

func closed(ch <-chan struct{}) bool {
	select {
	case <-ch:
		return true
	default:
		return false
	}
}

func wantCode(t testing.TB, err error, code status.Code) *status.Error {
	t.Helper()
	var e *status.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("want an error with code %v, got %v", code, err)
	}
	return e
}

var _ Process = (*peer)(nil)
