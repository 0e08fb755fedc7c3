package wire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

func TestHandshakeExchangesVersionsCapabilitiesAndTheSmallerFrameLimit(t *testing.T) {
	h, w := pair(t,
		Options{Hello: Hello{Version: "1.2.3", Capabilities: []string{"a"}}, MaxFrame: 4096},
		Options{Hello: Hello{Version: "1.2.4", PID: 7, Worker: "w1"}, Window: 99})
	want := Hello{Protocol: 1, Version: "1.2.4", Role: "worker", Capabilities: []string{}, MaxFrame: DefaultMaxFrame, Window: 99, PID: 7, Worker: "w1"}
	if diff := cmp.Diff(want, h.Peer()); diff != "" {
		t.Errorf("the worker's hello (-want +got):\n%s", diff)
	}
	if !w.Peer().Supports("a") || w.Peer().Supports("b") {
		t.Errorf("the host's capabilities arrived as %v", w.Peer().Capabilities)
	}
	if h.limit() != 4096 || w.limit() != 4096 {
		t.Errorf("the frame limits are %d and %d, not the smaller of both", h.limit(), w.limit())
	}
}

func TestACallBeforeTheHandshakeIsRefused(t *testing.T) {
	c, _ := against(t, Options{})
	if _, err := c.Call(patiently(t), "m", Message{}); status.CodeOf(err) != status.Internal {
		t.Errorf("got %v", err)
	}
}

func TestAHandshakeGivesUpWhenItsContextEnds(t *testing.T) {
	c, p := against(t, Options{})
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := c.Handshake(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	p.expect(TypeHello)
	p.hello(Hello{Protocol: Version, Role: "worker", MaxFrame: 4096, Window: 1})
	if _, err := c.Handshake(patiently(t)); err != nil {
		t.Errorf("a later handshake failed: %v", err)
	}
}

func TestBothSidesCallAtOnce(t *testing.T) {
	h, w := pair(t, Options{Handler: echo}, Options{Handler: echo})
	ctx := patiently(t)
	var calls sync.WaitGroup
	for _, c := range []*Conn{h, w} {
		for i := range 100 {
			calls.Go(func() {
				body := fmt.Sprintf(`"%v %d"`, c.o.Side, i)
				m, err := c.Call(ctx, "echo", Message{Body: []byte(body)})
				if err != nil || string(m.Body) != body {
					t.Errorf("sent %s, got %q, %v", body, m.Body, err)
				}
			})
		}
	}
	calls.Wait()
	if h.Pending() != 0 || w.Pending() != 0 {
		t.Errorf("%d and %d calls are still pending", h.Pending(), w.Pending())
	}
}

type wireError struct{ payload string }

func (wireError) Error() string       { return "own" }
func (e wireError) WireError() []byte { return []byte(e.payload) }

func TestAHandlersErrorTravels(t *testing.T) {
	long := strings.Repeat("\x01", 10_000)
	for _, tc := range []struct {
		name string
		err  error
		code string
		want string
	}{
		{"status error", status.New(status.BudgetExceeded, "lm", "no money"), "budget_exceeded", "budget_exceeded: no money"},
		{"wrapped status error", fmt.Errorf("around: %w", status.New(status.Tool, "lm", "no")), "tool", "tool: no"},
		{"any other error", errors.New("oops"), "internal", "internal: oops"},
		{"context error", context.DeadlineExceeded, "deadline_exceeded", "deadline_exceeded: context deadline exceeded"},
		{"own payload", fmt.Errorf("around: %w", wireError{`{"code":"lm","message":"m","ref":3}`}), "lm", "lm: m"},
		{"own payload over the limit", wireError{`{"code":"lm","message":"` + strings.Repeat("x", 2000) + `"}`}, "internal", "internal: own"},
		{"message over the limit", errors.New(long), "internal", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			h, _ := pair(t, Options{MaxFrame: 1024}, Options{Handler: func(context.Context, *Inbound) (Message, error) {
				return Message{}, tc.err
			}})
			_, err := h.Call(patiently(t), "m", Message{})
			var remote *RemoteError
			if !errors.As(err, &remote) {
				t.Fatalf("got %v", err)
			}
			if remote.Code() != tc.code || tc.want != "" && remote.Error() != tc.want {
				t.Errorf("got code %q, text %q", remote.Code(), remote.Error())
			}
		})
	}
}

func TestAHandlersPanicIsItsCallsError(t *testing.T) {
	for _, tc := range []struct {
		name string
		do   func()
		want string
	}{
		{"panic", func() { panic("boom") }, "panicked: boom"},
		{"nil panic", func() { panic(nil) }, "panicked"}, //nolint:govet // on purpose
		{"panic whose text panics", func() { panic(&evil{}) }, "panicked"},
		{"goexit", runtime.Goexit, "ended its goroutine"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var stacks atomic.Int32
			h, _ := pair(t, Options{}, Options{
				Handler: func(_ context.Context, in *Inbound) (Message, error) {
					if in.Method == "bad" {
						tc.do()
					}
					return in.Message, nil
				},
				Panicked: func(string, any, []byte) { stacks.Add(1) },
			})
			ctx := patiently(t)
			_, err := h.Call(ctx, "bad", Message{})
			var remote *RemoteError
			if !errors.As(err, &remote) || remote.Code() != "internal" || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
			if _, err := h.Call(ctx, "good", Message{}); err != nil {
				t.Errorf("the next call failed: %v", err)
			}
			if want := tc.name != "goexit"; (stacks.Load() == 1) != want {
				t.Errorf("Panicked was told %d times", stacks.Load())
			}
		})
	}
}

type evil struct{}

func (*evil) Error() string { panic("again") }

func TestCallsThatNobodyServesAreUnsupported(t *testing.T) {
	h, _ := pair(t, Options{}, Options{})
	_, err := h.Call(patiently(t), "m", Message{})
	var remote *RemoteError
	if !errors.As(err, &remote) || remote.Code() != "unsupported" {
		t.Errorf("got %v", err)
	}
}

func TestItemsComeInOrderThenTheResult(t *testing.T) {
	const n = 1000
	h, _ := pair(t, Options{Window: 100}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		for i := range n {
			if err := in.Chunk(ctx, fmt.Appendf(nil, "%d", i)); err != nil {
				return Message{}, err
			}
		}
		return Message{Body: []byte("{}")}, nil
	}})
	ctx := patiently(t)
	s, err := h.Start(ctx, "stream", Message{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		item, err := s.Next(ctx)
		if err != nil || string(item) != fmt.Sprint(i) {
			t.Fatalf("item %d is %q, %v", i, item, err)
		}
	}
	if _, err := s.Next(ctx); !errors.Is(err, io.EOF) {
		t.Errorf("after the last item: %v", err)
	}
	if m, err := s.Result(ctx); err != nil || string(m.Body) != "{}" {
		t.Errorf("result %q, %v", m.Body, err)
	}
}

func TestASlowReaderHoldsUpOnlyItsOwnStream(t *testing.T) {
	blocked := make(chan struct{})
	h, w := pair(t, Options{Window: 1000}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		if in.Method == "echo" {
			return in.Message, nil
		}
		item := bytes.Repeat([]byte("x"), 300)
		for i := range 100 {
			if i == 4 {
				close(blocked)
			}
			if err := in.Chunk(ctx, item); err != nil {
				return Message{}, err
			}
		}
		return Message{}, nil
	}})
	ctx := patiently(t)
	s, err := h.Start(ctx, "stream", Message{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, blocked, "running out of credit")
	for range 100 {
		if _, err := h.Call(ctx, "echo", Message{}); err != nil {
			t.Fatal(err)
		}
	}
	w.mu.Lock()
	credit := w.inbound[s.ID()].out.credit
	w.mu.Unlock()
	if credit != 1000-4*300 {
		t.Errorf("the sender has %d bytes of credit", credit)
	}
	var items int
	for {
		if _, err := s.Next(ctx); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		items++
	}
	if items != 100 {
		t.Errorf("%d items came", items)
	}
}

func TestResultDropsItemsThatNobodyTook(t *testing.T) {
	h, _ := pair(t, Options{Window: 100}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		for range 1000 {
			if err := in.Chunk(ctx, []byte("0123456789")); err != nil {
				return Message{}, err
			}
		}
		return Message{Body: []byte("{}")}, nil
	}})
	if m, err := h.Call(patiently(t), "stream", Message{}); err != nil || string(m.Body) != "{}" {
		t.Errorf("result %q, %v", m.Body, err)
	}
}

func TestAStreamCanBeAbandonedAtEveryItem(t *testing.T) {
	const n = 20
	h, w := pair(t, Options{Window: 30}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		for range n {
			if err := in.Chunk(ctx, []byte("0123456789")); err != nil {
				return Message{}, err
			}
		}
		return Message{}, nil
	}})
	ctx := patiently(t)
	for k := range n + 1 {
		s, err := h.Start(ctx, "stream", Message{})
		if err != nil {
			t.Fatal(err)
		}
		for range k {
			if _, err := s.Next(ctx); err != nil {
				t.Fatal(err)
			}
		}
		s.Close()
		await(t, s.Settled(), "settling")
		if _, err := s.Next(ctx); err == nil {
			t.Errorf("an item came after Close")
		}
	}
	nothingLeft(t, h, w)
}

func TestResultCancelsWhenItsContextEndsAndReturnsAtOnce(t *testing.T) {
	release := make(chan struct{})
	canceled := make(chan struct{})
	h, _ := pair(t, Options{}, Options{Handler: func(ctx context.Context, _ *Inbound) (Message, error) {
		<-ctx.Done()
		close(canceled)
		<-release
		return Message{Body: []byte("late")}, nil
	}})
	ctx, cancel := context.WithCancel(context.Background())
	s, err := h.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := s.Result(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	await(t, canceled, "the cancellation of the handler")
	select {
	case <-s.Settled():
		t.Error("the call is settled though the handler has not returned")
	default:
	}
	if h.Pending() != 1 {
		t.Errorf("%d calls are pending", h.Pending())
	}
	close(release)
	await(t, s.Settled(), "settling")
	if m, err := s.Result(patiently(t)); err == nil {
		t.Errorf("the late result %q was given to someone who had gone", m.Body)
	}
}

func TestReverseCallsAreServedByTheirParentUntilItIsSettled(t *testing.T) {
	type key struct{}
	reverseEnded := make(chan error, 1)
	inReverse := make(chan struct{})
	h, _ := pair(t, Options{}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		m, err := in.c.Call(ctx, "lm.complete", Message{Body: []byte("1")}, WithParent(in.ID))
		if err != nil {
			return Message{}, err
		}
		// One more reverse call, which is still running when its parent is settled.
		if _, err := in.c.Start(ctx, "lm.stuck", Message{}, WithParent(in.ID)); err != nil {
			return Message{}, err
		}
		<-inReverse
		return m, nil
	}})
	ctx := context.WithValue(patiently(t), key{}, "mine")
	m, err := h.Call(ctx, "program.run", Message{}, WithHandler(func(ctx context.Context, in *Inbound) (Message, error) {
		if in.Method == "lm.stuck" {
			close(inReverse)
			<-ctx.Done()
			reverseEnded <- context.Cause(ctx)
			return Message{}, ctx.Err()
		}
		if ctx.Value(key{}) != "mine" {
			t.Error("the reverse call's context does not derive from the caller's")
		}
		return Message{Body: append(in.Body, '2')}, nil
	}))
	if err != nil || string(m.Body) != "12" {
		t.Errorf("result %q, %v", m.Body, err)
	}
	if err := <-reverseEnded; !errors.Is(err, errSettled) {
		t.Errorf("the reverse call ended with %v", err)
	}
}

func TestCancelingACallCancelsItsReverseCalls(t *testing.T) {
	inReverse := make(chan struct{})
	h, _ := pair(t, Options{}, Options{Handler: func(_ context.Context, in *Inbound) (Message, error) {
		_, err := in.c.Call(context.Background(), "lm", Message{}, WithParent(in.ID))
		return Message{}, err
	}})
	ctx, cancel := context.WithCancel(context.Background())
	s, err := h.Start(patiently(t), "run", Message{}, WithHandler(func(ctx context.Context, _ *Inbound) (Message, error) {
		close(inReverse)
		<-ctx.Done()
		return Message{}, ctx.Err()
	}))
	if err != nil {
		t.Fatal(err)
	}
	await(t, inReverse, "the reverse call")
	cancel()
	if _, err := s.Result(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	await(t, s.Settled(), "settling")
}

func TestAMessageOverTheFrameLimitIsATypedErrorAndNothingIsSent(t *testing.T) {
	huge := Message{Body: make([]byte, 5000)}
	h, w := pair(t, Options{MaxFrame: 4096}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		switch in.Method {
		case "result":
			return huge, nil
		case "item":
			return Message{}, in.Chunk(ctx, huge.Body)
		}
		return in.Message, nil
	}})
	ctx := patiently(t)
	if _, err := h.Call(ctx, "echo", huge); status.CodeOf(err) != status.InvalidArgument || !strings.Contains(err.Error(), "limit of 4096") {
		t.Errorf("a long call: %v", err)
	}
	for _, method := range []string{"result", "item"} {
		var remote *RemoteError
		if _, err := h.Call(ctx, method, Message{}); !errors.As(err, &remote) || remote.Code() != "invalid_argument" {
			t.Errorf("a long %s: %v", method, err)
		}
	}
	if err := w.SendLog(ctx, 0, huge.Body); status.CodeOf(err) != status.InvalidArgument {
		t.Errorf("a long log line: %v", err)
	}
	if _, err := h.Call(ctx, "echo", Message{}); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestBadArgumentsAreRefusedBeforeAnythingIsSent(t *testing.T) {
	h, _ := pair(t, Options{MaxAttachments: 100}, Options{Handler: echo})
	ctx := patiently(t)
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	for _, tc := range []struct {
		name   string
		ctx    context.Context
		method string
		m      Message
		want   status.Code
	}{
		{"no method", ctx, "", Message{}, status.InvalidArgument},
		{"long method", ctx, strings.Repeat("m", 256), Message{}, status.InvalidArgument},
		{"method not ASCII", ctx, "é", Message{}, status.InvalidArgument},
		{"too many attachments", ctx, "m", Message{Attachments: make([]Attachment, 65536)}, status.InvalidArgument},
		{"too long attachments", ctx, "m", Message{Attachments: []Attachment{make(Bytes, 60), make(Bytes, 41)}}, status.InvalidArgument},
		{"attachment of negative size", ctx, "m", Message{Attachments: []Attachment{liar{size: -1}}}, status.InvalidArgument},
		{"ended context", canceled, "m", Message{}, status.Canceled},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if _, err := h.Start(tc.ctx, tc.method, tc.m); status.CodeOf(err) != tc.want {
				t.Errorf("got %v", err)
			}
		})
	}
	if _, err := h.Call(ctx, "echo", Message{}); err != nil {
		t.Errorf("the connection did not survive: %v", err)
	}
}

func TestPingAnswers(t *testing.T) {
	h, w := pair(t, Options{}, Options{})
	for _, c := range []*Conn{h, w} {
		if d, err := c.Ping(patiently(t)); err != nil || d <= 0 {
			t.Errorf("ping took %v, %v", d, err)
		}
	}
}

func TestDrainFinishesWhatIsOpenAndEndsTheConnection(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	h, w := pair(t, Options{}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		close(entered)
		<-release
		return in.c.Call(ctx, "reverse", Message{Body: []byte("1")}, WithParent(in.ID))
	}})
	ctx := patiently(t)
	s, err := h.Start(ctx, "run", Message{}, WithHandler(echo))
	if err != nil {
		t.Fatal(err)
	}
	await(t, entered, "the call")
	for range 2 {
		if err := h.Drain(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := h.Start(ctx, "late", Message{}); status.CodeOf(err) != status.Unavailable || !errors.Is(err, ErrNotSent) {
		t.Errorf("a call after Drain: %v", err)
	}
	close(release)
	if m, err := s.Result(ctx); err != nil || string(m.Body) != "1" {
		t.Errorf("the open call: %q, %v", m.Body, err)
	}
	await(t, w.Done(), "the worker's end")
	await(t, h.Done(), "the host's end")
	for _, c := range []*Conn{h, w} {
		if err := c.Err(); !errors.Is(err, errDrained) || status.CodeOf(err) != status.Closed {
			t.Errorf("the %v's error is %v", c.o.Side, err)
		}
	}
}

func TestDrainOfAnIdleConnectionEndsItAtOnce(t *testing.T) {
	h, w := pair(t, Options{}, Options{})
	if err := h.Drain(); err != nil {
		t.Fatal(err)
	}
	await(t, w.Done(), "the worker's end")
	await(t, h.Done(), "the host's end")
}

func TestCloseIsDefinedInEveryState(t *testing.T) {
	states := map[string]func(t *testing.T) *Conn{
		"before the handshake": func(t *testing.T) *Conn { c, _ := against(t, Options{}); return c },
		"idle":                 func(t *testing.T) *Conn { h, _ := pair(t, Options{}, Options{}); return h },
		"after a drain": func(t *testing.T) *Conn {
			h, _ := pair(t, Options{}, Options{})
			_ = h.Drain()
			await(t, h.Done(), "the end")
			return h
		},
		"with a stuck call": func(t *testing.T) *Conn {
			h, p := greeted(t, Options{}, 100)
			if _, err := h.Start(patiently(t), "m", Message{}); err != nil {
				t.Fatal(err)
			}
			p.expect(TypeCall)
			return h
		},
		"with a blocked writer": func(t *testing.T) *Conn {
			h, _ := greeted(t, Options{}, 100)
			if _, err := h.Start(patiently(t), "m", Message{Body: make([]byte, 16<<20)}); err != nil {
				t.Fatal(err)
			}
			return h
		},
		"with the peer gone": func(t *testing.T) *Conn { h, p := greeted(t, Options{}, 100); _ = p.Close(); return h },
	}
	for name, state := range states {
		t.Run(name, func(t *testing.T) {
			c := state(t)
			var closers sync.WaitGroup
			for range 4 {
				closers.Go(func() {
					if err := c.Close(); err != nil {
						t.Error(err)
					}
				})
			}
			closers.Wait()
			await(t, c.Done(), "the end")
			if c.Err() == nil {
				t.Error("a closed connection has no error")
			}
			if _, err := c.Start(patiently(t), "m", Message{}); !errors.Is(err, ErrNotSent) {
				t.Errorf("a call after Close: %v", err)
			}
			if _, err := c.Ping(patiently(t)); err == nil {
				t.Error("a ping after Close succeeded")
			}
			if err := c.Drain(); err == nil {
				t.Error("a drain after Close succeeded")
			}
			if _, err := c.Handshake(patiently(t)); err == nil && c.Peer().Protocol == 0 {
				t.Error("a handshake after Close succeeded")
			}
		})
	}
}

func TestCloseFailsCallsAndCancelsHandlers(t *testing.T) {
	entered, ended := make(chan struct{}), make(chan error, 1)
	h, w := pair(t, Options{}, Options{Handler: func(ctx context.Context, _ *Inbound) (Message, error) {
		close(entered)
		<-ctx.Done()
		ended <- context.Cause(ctx)
		return Message{}, ctx.Err()
	}})
	s, err := h.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	await(t, entered, "the call")
	_ = h.Close()
	if _, err := s.Result(patiently(t)); status.CodeOf(err) != status.Closed || errors.Is(err, ErrNotSent) {
		t.Errorf("the call ended with %v", err)
	}
	if err := <-ended; status.CodeOf(err) != status.WorkerLost {
		t.Errorf("the handler's context ended with %v", err)
	}
	await(t, w.Done(), "the peer's end")
}

func TestLogLinesArriveInOrderAndASlowReceiverLosesSome(t *testing.T) {
	const n = 5000
	gate, all := make(chan struct{}), make(chan struct{})
	var lines, dropped int
	h, w := pair(t, Options{Handler: echo, Log: func(stream uint64, payload []byte) {
		<-gate
		var line struct{ Message string }
		if err := json.Unmarshal(payload, &line); err != nil {
			t.Error(err)
		}
		if strings.HasSuffix(line.Message, "were dropped") {
			if _, err := fmt.Sscanf(line.Message, "%d", &dropped); err != nil {
				t.Error(err)
			}
		} else {
			if lines++; stream != 6 {
				t.Errorf("a line of stream %d", stream)
			}
		}
		if lines+dropped == n {
			close(all)
		}
	}}, Options{})
	ctx := patiently(t)
	for i := range n {
		if err := w.SendLog(ctx, 6, fmt.Appendf(nil, `{"message":"%d"}`, i)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := w.Call(ctx, "echo", Message{}); err != nil { // all lines have been read
		t.Fatal(err)
	}
	close(gate)
	await(t, all, "all log lines")
	if dropped == 0 || lines < logQueue {
		t.Errorf("%d lines came, %d were dropped", lines, dropped)
	}
	_ = h
}
