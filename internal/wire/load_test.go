package wire

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// some returns full, or a hundredth of it with -short or the race detector's patience in mind.
func some(full int) int {
	if testing.Short() {
		return full / 100
	}
	return full
}

func TestManyTinyCallsAllComeBack(t *testing.T) {
	h, w := pair(t, Options{}, Options{Handler: echo})
	ctx := patiently(t)
	var callers sync.WaitGroup
	var next atomic.Int64
	total := int64(some(100_000))
	for range 64 {
		callers.Go(func() {
			for i := next.Add(1); i <= total; i = next.Add(1) {
				body := fmt.Sprint(i)
				if m, err := h.Call(ctx, "echo", Message{Body: []byte(body)}); err != nil || string(m.Body) != body {
					t.Errorf("call %d: %q, %v", i, m.Body, err)
					return
				}
			}
		})
	}
	callers.Wait()
	nothingLeft(t, h, w)
}

// With 200 in flight and cancels at random, everyone gets the own answer or an error, and nothing
// is left.
func TestNoCallerGetsAnothersAnswerUnderCancellation(t *testing.T) {
	h, w := pair(t, Options{}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		m, err := in.c.Call(ctx, "lm", Message{Body: in.Body}, WithParent(in.ID))
		if err != nil {
			return Message{}, err
		}
		return Message{Body: m.Body, Attachments: in.Attachments}, nil
	}})
	before := runtime.NumGoroutine()
	ctx := patiently(t)
	var callers sync.WaitGroup
	var next, done, canceled atomic.Int64
	total := int64(some(10_000))
	for c := range 200 {
		callers.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(c)))
			for i := next.Add(1); i <= total; i = next.Add(1) {
				call(ctx, t, h, i, random, &done, &canceled)
			}
		})
	}
	callers.Wait()
	if done.Load() == 0 || canceled.Load() == 0 {
		t.Errorf("%d calls came back and %d were canceled: the test tests nothing", done.Load(), canceled.Load())
	}
	for h.Pending() > 0 || w.serving() > 0 || h.serving() > 0 || w.Pending() > 0 {
		if _, err := h.Ping(ctx); err != nil { // settling takes round trips, not time
			t.Fatal(err)
		}
	}
	for runtime.NumGoroutine() > before {
		if ctx.Err() != nil {
			t.Fatalf("%d goroutines became %d", before, runtime.NumGoroutine())
		}
		runtime.Gosched()
	}
}

func call(ctx context.Context, t *testing.T, h *Conn, i int64, random *rand.Rand, done, canceled *atomic.Int64) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	m := Message{Body: fmt.Append(nil, i)}
	if i%7 == 0 {
		m.Attachments = []Attachment{Bytes(fmt.Append(nil, "a", i))}
	}
	when := random.IntN(4) // 0: before the reverse call, 1: in it, else never
	if when == 0 {
		go cancel()
	}
	got, err := h.Call(ctx, "run", m, WithHandler(func(_ context.Context, in *Inbound) (Message, error) {
		if when == 1 {
			cancel()
		}
		return in.Message, nil
	}))
	switch {
	case err == nil:
		done.Add(1)
		if string(got.Body) != fmt.Sprint(i) {
			t.Errorf("call %d got the answer %q", i, got.Body)
		}
		for _, b := range contents(t, got) {
			if string(b) != fmt.Sprint("a", i) {
				t.Errorf("call %d got the attachment %q", i, b)
			}
		}
		got.Release()
	case errors.Is(err, context.Canceled):
		canceled.Add(1)
	default:
		var remote *RemoteError
		if !errors.As(err, &remote) || remote.Code() != "canceled" || when > 1 {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

func TestADeadlineEndsAWaitWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		h := NewConn(a, Options{Side: Host})
		w := NewConn(b, Options{Side: Worker, Handler: stuck})
		defer func() {
			_, _ = h.Close(), w.Close()
			_, _ = h.Wait(t.Context()), w.Wait(t.Context())
		}()
		go func() { _, _ = w.Handshake(t.Context()) }()
		if _, err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		waits := map[string]func(ctx context.Context) error{
			"result": func(ctx context.Context) error { return second(h.Call(ctx, "m", Message{})) },
			"item": func(ctx context.Context) error {
				s, err := h.Start(ctx, "m", Message{})
				if err != nil {
					return err
				}
				defer s.Close()
				return second(s.Next(ctx))
			},
		}
		for name, wait := range waits {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			err := wait(ctx)
			cancel()
			if status.CodeOf(err) != status.DeadlineExceeded || time.Since(start) != time.Hour {
				t.Errorf("waiting for the %s ended with %v after %v", name, err, time.Since(start))
			}
		}
		synctest.Wait()
		nothingLeft(t, h, w)
	})
}

// A peer that can be written to no more is given a moment to have its last answers read, not more.
func TestAPeerThatTakesNothingMoreIsLostSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		h := NewConn(&deaf{Conn: a, after: 2}, Options{})
		defer func() { _ = h.Close() }()
		go func() {
			d := NewDecoder(b, 1<<20)
			_, _, _ = d.Next()
			_, _ = b.Write(frameBytes(TypeHello, 0, 0, `{"protocol":1,"role":"worker","max_frame":1024,"window":64}`))
			_, _, _ = d.Next()
		}()
		if _, err := h.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		first, err := h.Start(t.Context(), "m", Message{})
		if err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		start := time.Now()
		unsent, err := h.Start(t.Context(), "m", Message{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := first.Result(t.Context()); status.CodeOf(err) != status.WorkerLost || errors.Is(err, ErrNotSent) {
			t.Errorf("the call that was sent: %v", err)
		}
		if _, err := unsent.Result(t.Context()); status.CodeOf(err) != status.WorkerLost || !errors.Is(err, ErrNotSent) {
			t.Errorf("the call that was not sent: %v", err)
		}
		if got := time.Since(start); got != lastReads {
			t.Errorf("the connection was lost after %v", got)
		}
	})
}

// deaf is a connection that takes no more after some writes.
type deaf struct {
	net.Conn
	after int
}

func (d *deaf) Write(b []byte) (int, error) {
	if d.after == 0 {
		return 0, errors.New("broken pipe")
	}
	d.after--
	return d.Conn.Write(b)
}
