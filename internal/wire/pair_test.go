package wire

import (
	"context"
	"io"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

// patience bounds every wait in these tests; none of them comes near it.
const patience = 30 * time.Second

func patiently(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	t.Cleanup(cancel)
	return ctx
}

// open starts a Conn that is gone, with its handlers, when the test ends.
func open(t testing.TB, rw io.ReadWriteCloser, o Options) *Conn {
	t.Helper()
	if o.TempDir == "" {
		o.TempDir = t.TempDir()
	}
	c := NewConn(rw, o)
	t.Cleanup(func() {
		_ = c.Close()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if err := c.Wait(ctx); err != nil {
			t.Errorf("handlers outlive the connection: %v", err)
		}
	})
	return c
}

// pair returns a host and a worker that have shaken hands.
func pair(t testing.TB, host, worker Options) (h, w *Conn) {
	t.Helper()
	a, b := sockets(t)
	host.Side, worker.Side = Host, Worker
	h, w = open(t, a, host), open(t, b, worker)
	greeted := make(chan error, 1)
	ctx := patiently(t)
	go func() {
		_, err := w.Handshake(ctx)
		greeted <- err
	}()
	if _, err := h.Handshake(ctx); err != nil {
		t.Fatal(err)
	}
	if err := <-greeted; err != nil {
		t.Fatal(err)
	}
	return h, w
}

// echo answers a call with its own message.
func echo(_ context.Context, in *Inbound) (Message, error) {
	return in.Message, nil
}

// await fails the test if ch is not closed in time.
func await(t testing.TB, ch <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-ch:
	case <-time.After(patience):
		t.Fatalf("%s did not happen", what)
	}
}

// serving returns how many of the peer's calls are not answered.
func (c *Conn) serving() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inbound)
}

// nothingLeft fails unless the caller's streams and the callee's calls are soon all gone:
// an answer may arrive before whoever sent it has written it off.
func nothingLeft(t testing.TB, caller, callee *Conn) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for ctx := patiently(t); caller.Pending() != 0 || callee.serving() != 0; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%d streams and %d calls are left", caller.Pending(), callee.serving())
		}
	}
}
