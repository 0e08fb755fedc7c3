package wire

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/dspex/dspex/internal/status"
)

// frameBytes returns a frame as bytes.
func frameBytes(t Type, flags uint8, stream uint64, payload string) []byte {
	return append(AppendHeader(nil, Header{Type: t, Flags: flags, Length: uint32(len(payload)), Stream: stream}), payload...)
}

func TestAPeerThatBreaksTheProtocolLosesTheConnectionWithANamedFault(t *testing.T) {
	head := func(method string, parent uint64, sizes ...int64) string {
		return string(AppendCallHead(nil, method, parent, sizes))
	}
	for _, tc := range []struct {
		name  string
		send  []byte
		fault Fault
		text  string
	}{
		{"bytes that are no frame", []byte("Traceback (most recent call last)"), FaultMagic, "0x54"},
		{"wrong version", append([]byte{Magic, 2}, make([]byte, 14)...), FaultVersion, "version 2"},
		{"unknown type", []byte{Magic, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, FaultType, "type 12"},
		{"type zero", []byte{Magic, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}, FaultType, "type 0"},
		{"second HELLO", frameBytes(TypeHello, 0, 0, "{}"), FaultMalformed, "twice"},
		{"HELLO on a stream", frameBytes(TypeHello, 0, 2, "{}"), FaultMalformed, "stream 2"},
		{"PING on a stream", frameBytes(TypePing, 0, 2, "12345678"), FaultMalformed, "stream 2"},
		{"short PING", frameBytes(TypePing, 0, 0, "1234567"), FaultMalformed, "7 bytes"},
		{"short PONG", frameBytes(TypePong, 0, 0, ""), FaultMalformed, "0 bytes"},
		{"DRAIN with a payload", frameBytes(TypeDrain, 0, 0, "x"), FaultMalformed, "1 bytes"},
		{"CALL on stream 0", frameBytes(TypeCall, 0, 0, head("m", 0)), FaultMalformed, "stream 0"},
		{"CALL on a stream of ours", frameBytes(TypeCall, 0, 3, head("m", 0)), FaultStream, "stream 3"},
		{"CALL on a used stream", append(frameBytes(TypeCall, 0, 2, head("m", 0)), frameBytes(TypeCall, 0, 2, head("m", 0))...), FaultStream, "not a new stream"},
		{"CALL without payload", frameBytes(TypeCall, 0, 2, ""), FaultMalformed, "empty"},
		{"CALL without method", frameBytes(TypeCall, 0, 2, "\x00"), FaultMalformed, "no method"},
		{"CALL with half a head", frameBytes(TypeCall, 0, 2, "\x01m1234"), FaultMalformed, "inside its head"},
		{"CALL with a method that is not ASCII", frameBytes(TypeCall, 0, 2, head("é", 0)), FaultMalformed, "not ASCII"},
		{"CALL with half a table", frameBytes(TypeCall, FlagAttachments, 2, head("m", 0, 5)[:14]), FaultMalformed, "attachment table"},
		{"RESULT on a stream never opened", frameBytes(TypeResult, 0, 3, "{}"), FaultStream, "never opened"},
		{"RESULT on a stream of its own", frameBytes(TypeResult, 0, 2, "{}"), FaultStream, "never opened"},
		{"RESULT with half a table", frameBytes(TypeResult, FlagAttachments, 1, "\x00\x01"), FaultMalformed, "attachment table"},
		{"ERROR on a stream never opened", frameBytes(TypeError, 0, 3, "{}"), FaultStream, "never opened"},
		{"item on a stream never opened", frameBytes(TypeChunk, 0, 3, "1"), FaultStream, "never opened"},
		{"item on a stream of its own", append(frameBytes(TypeCall, 0, 2, head("stuck", 0)), frameBytes(TypeChunk, 0, 2, "1")...), FaultMalformed, "no attachments"},
		{"attachment that was not announced", frameBytes(TypeChunk, FlagAttachments, 1, "1"), FaultMalformed, "no attachments"},
		{"attachment on a stream never opened", frameBytes(TypeChunk, FlagAttachments, 2, "1"), FaultStream, "never opened"},
		{"attachment of a call that announced none", append(frameBytes(TypeCall, 0, 2, head("stuck", 0)), frameBytes(TypeChunk, FlagAttachments, 2, "1")...), FaultMalformed, "no attachments"},
		{"attachment that is too long", append(frameBytes(TypeCall, FlagAttachments, 2, head("m", 0, 3)), frameBytes(TypeChunk, FlagAttachments, 2, "1234")...), FaultMalformed, "beyond"},
		{"empty CHUNK", frameBytes(TypeChunk, 0, 1, ""), FaultMalformed, "empty"},
		{"item after the RESULT", append(frameBytes(TypeResult, FlagAttachments, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"), frameBytes(TypeChunk, 0, 1, "1")...), FaultMalformed, "after its RESULT"},
		{"RESULT twice before its attachments", append(frameBytes(TypeResult, FlagAttachments, 1, "\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01"), frameBytes(TypeResult, 0, 1, "1")...), FaultMalformed, "twice"},
		{"items without credit", append(frameBytes(TypeChunk, 0, 1, strings.Repeat("x", 1000)), frameBytes(TypeChunk, 0, 1, "y")...), FaultCredit, "without credit"},
		{"CREDIT on a stream never opened", frameBytes(TypeCredit, 0, 3, "1234"), FaultStream, "never opened"},
		{"CREDIT of their stream never opened", frameBytes(TypeCredit, 0, 4, "1234"), FaultStream, "never opened"},
		{"short CREDIT", frameBytes(TypeCredit, 0, 1, "123"), FaultMalformed, "3 bytes"},
		{"CANCEL with a payload", frameBytes(TypeCancel, 0, 2, "x"), FaultMalformed, "1 bytes"},
		{"CANCEL of a stream of ours", frameBytes(TypeCancel, 0, 1, ""), FaultStream, "never opened"},
		{"oversized PING", AppendHeader(nil, Header{Type: TypePing, Length: 1 << 30}), FaultMalformed, "bytes"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, p := greeted(t, Options{MaxFrame: 4096, Window: 500, Handler: stuck}, 100)
			ctx := patiently(t)
			s, err := c.Start(ctx, "m", Message{})
			if err != nil {
				t.Fatal(err)
			}
			p.expect(TypeCall)
			p.write(tc.send)
			await(t, c.Done(), "the loss")
			for _, err := range []error{second(s.Result(ctx)), c.Err()} {
				var fault *ProtocolError
				if status.CodeOf(err) != status.WorkerLost || !errors.As(err, &fault) {
					t.Fatalf("got %v", err)
				}
				if fault.Fault != tc.fault || !strings.Contains(err.Error(), tc.text) {
					t.Errorf("the fault is %q: %v", fault.Fault, err)
				}
				if errors.Is(err, ErrNotSent) {
					t.Errorf("%v claims that the call was not sent", err)
				}
			}
		})
	}
}

func second[A, B any](_ A, b B) B { return b }

// stuck serves a call until its context ends.
func stuck(ctx context.Context, _ *Inbound) (Message, error) {
	<-ctx.Done()
	return Message{}, ctx.Err()
}

func TestAWrongHelloEndsTheHandshake(t *testing.T) {
	good := Hello{Protocol: Version, Role: "worker", MaxFrame: 4096, Window: 1}
	with := func(change func(*Hello)) Hello {
		h := good
		change(&h)
		return h
	}
	for _, tc := range []struct {
		name  string
		hello Hello
		raw   []byte
		fault Fault
		text  string
	}{
		{name: "other protocol", hello: with(func(h *Hello) { h.Protocol = 2; h.Version = "9" }), fault: FaultVersion, text: `version "9") speaks protocol version 2, not 1`},
		{name: "same side", hello: with(func(h *Hello) { h.Role = "host" }), fault: FaultMalformed, text: `a "host", not a "worker"`},
		{name: "tiny frames", hello: with(func(h *Hello) { h.MaxFrame = 10 }), fault: FaultMalformed, text: "max_frame of 10"},
		{name: "no window", hello: with(func(h *Hello) { h.Window = 0 }), fault: FaultMalformed, text: "window of 0"},
		{name: "no JSON", raw: frameBytes(TypeHello, 0, 0, "hi"), fault: FaultMalformed, text: "cannot be read"},
		{name: "oversized", raw: AppendHeader(nil, Header{Type: TypeHello, Length: 1 << 30}), fault: FaultMalformed, text: "bytes"},
		{name: "something else", raw: frameBytes(TypeLog, 0, 0, "{}"), fault: FaultMalformed, text: "LOG came before HELLO"},
		{name: "a print", raw: []byte("Hello, I am a worker"), fault: FaultMagic, text: "0x48"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c, p := against(t, Options{})
			if tc.raw != nil {
				p.write(tc.raw)
			} else {
				p.hello(tc.hello)
			}
			_, err := c.Handshake(patiently(t))
			var fault *ProtocolError
			if status.CodeOf(err) != status.WorkerLost || !errors.As(err, &fault) || fault.Fault != tc.fault || !strings.Contains(err.Error(), tc.text) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestAPeerMaySayWhyItGivesTheConnectionUp(t *testing.T) {
	c, p := against(t, Options{})
	p.send(TypeError, 0, 0, []byte(`{"code":"unsupported","message":"the host speaks protocol 1, this worker 2"}`))
	_, err := c.Handshake(patiently(t))
	var remote *RemoteError
	if status.CodeOf(err) != status.WorkerLost || !errors.As(err, &remote) || !strings.Contains(err.Error(), "this worker 2") {
		t.Errorf("got %v", err)
	}
}

func TestAPeerThatClosesIsATypedErrorAtEveryByte(t *testing.T) {
	whole := frameBytes(TypeResult, 0, 1, `{"a":1}`)
	for n := range whole {
		c, p := greeted(t, Options{}, 100)
		s, err := c.Start(patiently(t), "m", Message{})
		if err != nil {
			t.Fatal(err)
		}
		p.expect(TypeCall)
		p.write(whole[:n])
		_ = p.Close()
		_, err = s.Result(patiently(t))
		var fault *ProtocolError
		truncated := errors.As(err, &fault) && fault.Fault == FaultTruncated
		if status.CodeOf(err) != status.WorkerLost || truncated != (n > 0) {
			t.Errorf("after %d bytes: %v", n, err)
		}
		_ = c.Close()
	}
}

func TestAPeerThatClosesAtEveryStepOfTheConversation(t *testing.T) {
	steps := []struct {
		name string
		do   func(t *testing.T, c *Conn, p *raw)
	}{
		{"before HELLO", func(*testing.T, *Conn, *raw) {}},
		{"after its HELLO", func(t *testing.T, c *Conn, p *raw) {
			p.hello(Hello{Protocol: Version, Role: "worker", MaxFrame: 4096, Window: 500})
			if _, err := c.Handshake(patiently(t)); err != nil {
				t.Fatal(err)
			}
			p.expect(TypeHello)
		}},
		{"with a call in flight", func(t *testing.T, c *Conn, p *raw) {
			if _, err := c.Start(patiently(t), "m", Message{}, WithHandler(stuck)); err != nil {
				t.Fatal(err)
			}
			p.expect(TypeCall)
		}},
		{"with a reverse call in flight", func(_ *testing.T, _ *Conn, p *raw) { p.call(2, 1, "lm", "{}") }},
		{"with items sent", func(_ *testing.T, _ *Conn, p *raw) { p.send(TypeChunk, 0, 1, []byte("1")) }},
		{"with attachments half sent", func(_ *testing.T, _ *Conn, p *raw) {
			p.call(4, 1, "lm", "{}", 100)
			p.send(TypeChunk, FlagAttachments, 4, []byte("1"))
		}},
		{"draining", func(t *testing.T, c *Conn, p *raw) {
			if err := c.Drain(); err != nil {
				t.Fatal(err)
			}
			p.expect(TypeDrain)
		}},
	}
	for last := range steps {
		t.Run(steps[last].name, func(t *testing.T) {
			c, p := against(t, Options{})
			for _, step := range steps[:last+1] {
				step.do(t, c, p)
			}
			_ = p.Close()
			await(t, c.Done(), "the loss")
			if err := c.Err(); status.CodeOf(err) != status.WorkerLost {
				t.Errorf("got %v", err)
			}
			nothingLeft(t, c, c)
		})
	}
}

func TestAnOversizedFrameFailsOnlyItsCall(t *testing.T) {
	const limit = 4096
	long := make([]byte, limit+1)
	for _, typ := range []Type{TypeResult, TypeError, TypeChunk} {
		t.Run(typ.String()+" of a call of ours", func(t *testing.T) {
			c, p := greeted(t, Options{MaxFrame: limit}, 100)
			s, err := c.Start(patiently(t), "m", Message{})
			if err != nil {
				t.Fatal(err)
			}
			p.expect(TypeCall)
			p.send(typ, 0, 1, long)
			_, err = s.Result(patiently(t))
			if status.CodeOf(err) != status.InvalidArgument || !strings.Contains(err.Error(), "4097 bytes is over the limit of 4096") {
				t.Errorf("got %v", err)
			}
			if typ == TypeChunk { // the peer does not know yet that it is over
				p.expect(TypeCancel)
				p.send(TypeResult, 0, 1, nil)
			}
			await(t, s.Settled(), "settling")
			p.alive()
		})
	}
	t.Run("CALL", func(t *testing.T) {
		_, p := greeted(t, Options{MaxFrame: limit, Handler: echo}, 100)
		p.send(TypeCall, 0, 2, long)
		if code := p.expectError(2); code != "invalid_argument" {
			t.Errorf("code %q", code)
		}
		p.call(4, 0, "m", "1")
		p.expect(TypeResult)
	})
	t.Run("CHUNK of a call of theirs", func(t *testing.T) {
		_, p := greeted(t, Options{MaxFrame: limit, Handler: echo}, 100)
		p.call(2, 0, "m", "1", 10_000)
		p.send(TypeChunk, FlagAttachments, 2, long)
		if code := p.expectError(2); code != "invalid_argument" {
			t.Errorf("code %q", code)
		}
		p.send(TypeChunk, FlagAttachments, 2, long[:100])
		p.alive()
	})
	t.Run("LOG", func(t *testing.T) {
		_, p := greeted(t, Options{MaxFrame: limit}, 100)
		p.send(TypeLog, 0, 0, long)
		p.alive()
	})
	t.Run("of a settled stream", func(t *testing.T) {
		c, p := greeted(t, Options{MaxFrame: limit}, 100)
		s, err := c.Start(patiently(t), "m", Message{})
		if err != nil {
			t.Fatal(err)
		}
		p.expect(TypeCall)
		p.send(TypeResult, 0, 1, nil)
		await(t, s.Settled(), "settling")
		p.send(TypeResult, 0, 1, long)
		p.send(TypeChunk, 0, 1, long)
		p.alive()
	})
}

func TestFramesOfSettledStreamsAreDropped(t *testing.T) {
	c, p := greeted(t, Options{Handler: echo}, 100)
	s, err := c.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	p.expect(TypeCall)
	p.send(TypeResult, 0, 1, []byte("first"))
	p.call(2, 0, "m", "1")
	p.expect(TypeResult)
	for _, frame := range [][]byte{
		frameBytes(TypeResult, 0, 1, "second"),
		frameBytes(TypeError, 0, 1, "{}"),
		frameBytes(TypeChunk, 0, 1, "1"),
		frameBytes(TypeChunk, FlagAttachments, 1, "1"),
		frameBytes(TypeCredit, 0, 1, "1234"),
		frameBytes(TypeCredit, 0, 2, "1234"),
		frameBytes(TypeCancel, 0, 2, ""),
		frameBytes(TypeChunk, FlagAttachments, 2, "1"),
	} {
		p.write(frame)
	}
	p.alive()
	if m, err := s.Result(patiently(t)); err != nil || string(m.Body) != "first" {
		t.Errorf("result %q, %v", m.Body, err)
	}
}

func TestALateReplyReachesNobody(t *testing.T) {
	c, p := greeted(t, Options{}, 100)
	canceled, cancel := context.WithCancel(context.Background())
	s, err := c.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	p.expect(TypeCall)
	cancel()
	for range 2 {
		if _, err := s.Result(canceled); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
	}
	s.Cancel()
	s.Close()
	p.expect(TypeCancel)
	next, err := c.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	p.expect(TypeCall) // so CANCEL was sent once
	p.send(TypeResult, 0, 1, []byte("late"))
	await(t, s.Settled(), "settling")
	p.send(TypeResult, 0, 3, []byte("mine"))
	if m, err := next.Result(patiently(t)); err != nil || string(m.Body) != "mine" {
		t.Errorf("result %q, %v", m.Body, err)
	}
}

func TestReverseCallsWithoutALivingParentAreRefused(t *testing.T) {
	c, p := greeted(t, Options{Handler: echo}, 100)
	for _, options := range [][]StartOption{{WithHandler(echo)}, nil} {
		if _, err := c.Start(patiently(t), "m", Message{}, options...); err != nil {
			t.Fatal(err)
		}
		p.expect(TypeCall)
	}
	p.call(2, 1, "lm", "1")
	p.expect(TypeResult)
	for i, tc := range []struct {
		name   string
		parent uint64
		want   string
	}{
		{"a parent that serves none", 3, "unsupported"},
		{"a parent that was never opened", 5, "invalid_argument"},
		{"a parent of their own", 2, "invalid_argument"},
	} {
		stream := uint64(10 + 2*i)
		p.call(stream, tc.parent, "lm", "1")
		if code := p.expectError(stream); code != tc.want {
			t.Errorf("%s: code %q", tc.name, code)
		}
	}
	p.send(TypeResult, 0, 1, nil)
	p.call(100, 1, "lm", "1")
	if code := p.expectError(100); code != "canceled" {
		t.Errorf("a settled parent: code %q", code)
	}
}

func TestAnErrorMayReplaceAResultWhoseAttachmentsAreMissing(t *testing.T) {
	c, p := greeted(t, Options{}, 100)
	s, err := c.Start(patiently(t), "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	p.expect(TypeCall)
	p.send(TypeResult, FlagAttachments, 1, AppendResultHead(nil, []int64{10}))
	p.send(TypeChunk, FlagAttachments, 1, []byte("12345"))
	p.send(TypeError, 0, 1, []byte(`{"code":"python","message":"disk"}`))
	var remote *RemoteError
	if _, err := s.Result(patiently(t)); !errors.As(err, &remote) || remote.Code() != "python" {
		t.Errorf("got %v", err)
	}
}

func TestACallThatWasNotWrittenSaysSo(t *testing.T) {
	c, p := greeted(t, Options{}, 100)
	ctx := patiently(t)
	// The socket cannot take this one, and the peer does not read.
	first, err := c.Start(ctx, "m", Message{Body: make([]byte, 3<<20)})
	if err != nil {
		t.Fatal(err)
	}
	behind, err := c.Start(ctx, "m", Message{})
	if err != nil {
		t.Fatal(err)
	}
	_ = p.Close()
	for _, s := range []*Stream{first, behind} {
		_, err := s.Result(ctx)
		var e *status.Error
		if !errors.As(err, &e) || e.Code != status.WorkerLost || !e.Retryable || !errors.Is(err, ErrNotSent) {
			t.Errorf("got %v", err)
		}
	}
	if _, err := c.Start(ctx, "m", Message{}); !errors.Is(err, ErrNotSent) {
		t.Errorf("a call after the loss: %v", err)
	}
}

func TestAnswersThatThePeerSentBeforeItDiedAreNotLost(t *testing.T) {
	c, p := greeted(t, Options{}, 100)
	ctx := patiently(t)
	var streams []*Stream
	for range 50 {
		s, err := c.Start(ctx, "m", Message{})
		if err != nil {
			t.Fatal(err)
		}
		streams = append(streams, s)
		p.expect(TypeCall)
	}
	for _, s := range streams {
		p.write(frameBytes(TypeResult, 0, s.ID(), fmt.Sprint(s.ID())))
	}
	_ = p.Close()
	for _, s := range streams {
		if m, err := s.Result(ctx); err != nil || string(m.Body) != fmt.Sprint(s.ID()) {
			t.Errorf("stream %d: %q, %v", s.ID(), m.Body, err)
		}
	}
}

func TestCallersWaitForAPeerThatDoesNotRead(t *testing.T) {
	c, _ := greeted(t, Options{}, 100)
	ctx, cancel := context.WithCancel(patiently(t))
	started := make(chan int, 1)
	go func() {
		n := 0
		for {
			if _, err := c.Start(ctx, "m", Message{Body: make([]byte, 1<<20)}); err != nil {
				started <- n
				return
			}
			if n++; n == 4 {
				cancel()
			}
		}
	}()
	if n := <-started; n > 8 {
		t.Errorf("%d MiB were queued", n)
	}
}

func TestAPeerThatMakesUsSendAndDoesNotReadIsLost(t *testing.T) {
	c, p := greeted(t, Options{}, 100)
	c.w.most = 1 << 20
	pings := []byte(strings.Repeat(string(frameBytes(TypePing, 0, 0, "12345678")), 10_000))
	for {
		if _, err := p.Write(pings); err != nil {
			break
		}
	}
	await(t, c.Done(), "the loss")
	if err := c.Err(); !strings.Contains(err.Error(), "does not read") {
		t.Errorf("got %v", err)
	}
}
