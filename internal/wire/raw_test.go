package wire

import (
	"encoding/json"
	"net"
	"testing"
	"time"
)

// raw is a peer that sends what a test tells it to, right or wrong.
type raw struct {
	testing.TB
	net.Conn
	d *Decoder
}

// against returns a Conn of the host's side and the raw worker that it talks to, before the
// handshake.
func against(t testing.TB, o Options) (*Conn, *raw) {
	t.Helper()
	a, b := sockets(t)
	o.Side = Host
	c := open(t, a, o)
	p := &raw{TB: t, Conn: b, d: NewDecoder(b, 1<<30)}
	t.Cleanup(func() { _ = b.Close() })
	if err := b.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	return c, p
}

// greeted is against after the handshake, in which the peer announces a window.
func greeted(t testing.TB, o Options, window int) (*Conn, *raw) {
	t.Helper()
	c, p := against(t, o)
	done := make(chan error, 1)
	ctx := patiently(t)
	go func() {
		_, err := c.Handshake(ctx)
		done <- err
	}()
	p.expect(TypeHello)
	p.hello(Hello{Protocol: Version, Role: "worker", MaxFrame: DefaultMaxFrame, Window: window})
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	return c, p
}

func (p *raw) hello(h Hello) {
	p.Helper()
	payload, err := json.Marshal(h)
	if err != nil {
		p.Fatal(err)
	}
	p.send(TypeHello, 0, 0, payload)
}

func (p *raw) send(t Type, flags uint8, stream uint64, payload []byte) {
	p.Helper()
	p.write(append(AppendHeader(nil, Header{Type: t, Flags: flags, Length: uint32(len(payload)), Stream: stream}), payload...))
}

func (p *raw) call(stream, parent uint64, method, body string, sizes ...int64) {
	p.Helper()
	var flags uint8
	if sizes != nil {
		flags = FlagAttachments
	}
	p.send(TypeCall, flags, stream, append(AppendCallHead(nil, method, parent, sizes), body...))
}

func (p *raw) write(b []byte) {
	p.Helper()
	if _, err := p.Write(b); err != nil {
		p.Fatalf("the peer cannot write: %v", err)
	}
}

type received struct {
	Header
	payload []byte
}

// next returns the next frame.
func (p *raw) next() received {
	p.Helper()
	f, err := p.read()
	if err != nil {
		p.Fatalf("the peer cannot read: %v", err)
	}
	return f
}

func (p *raw) read() (received, error) {
	h, _, err := p.d.Next()
	if err != nil {
		return received{}, err
	}
	payload, err := p.d.Payload()
	return received{h, payload}, err
}

// expect returns the next frame, which must be of type t.
func (p *raw) expect(t Type) received {
	p.Helper()
	f := p.next()
	if f.Type != t {
		p.Fatalf("the peer got %v %q, not %v", f.Type, f.payload, t)
	}
	return f
}

// expectError returns the code of the next frame, which must be an ERROR on the stream.
func (p *raw) expectError(stream uint64) string {
	p.Helper()
	f := p.expect(TypeError)
	if f.Stream != stream {
		p.Fatalf("ERROR came on stream %d, not %d", f.Stream, stream)
	}
	return (&RemoteError{Payload: f.payload}).Code()
}

// alive fails unless the connection still serves.
func (p *raw) alive() {
	p.Helper()
	p.send(TypePing, 0, 0, []byte("12345678"))
	for {
		f := p.next()
		if f.Type == TypePong {
			return
		}
	}
}
