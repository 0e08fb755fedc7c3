package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

// liar is an attachment that has other bytes than its size says.
type liar struct {
	size int64
	data []byte
	err  error
}

func (l liar) Size() int64 { return l.size }

func (l liar) Open() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.data)), l.err
}

// noise returns n bytes that are not easily mixed up.
func noise(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{byte(n)}).Read(b)
	return b
}

func contents(t testing.TB, m Message) [][]byte {
	t.Helper()
	var all [][]byte
	for _, a := range m.Attachments {
		r, err := a.Open()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if int64(len(b)) != a.Size() {
			t.Errorf("an attachment of %d bytes says it has %d", len(b), a.Size())
		}
		_ = r.Close()
		all = append(all, b)
	}
	return all
}

func TestAttachmentsComeBackAsTheyWere(t *testing.T) {
	for _, tc := range []struct {
		name  string
		sizes []int
	}{
		{"one empty", []int{0}},
		{"one byte", []int{1}},
		{"several with empty ones between", []int{0, 3, 0, 100_000, 0}},
		{"as much as stays in memory", []int{spillAbove}},
		{"so much that it goes to a file", []int{10, spillAbove, 0, 77}},
	} {
		for _, window := range []int{1, 1000, 1 << 20} {
			if window == 1 && tc.sizes[0] == spillAbove {
				continue // it is only slow
			}
			t.Run(tc.name, func(t *testing.T) {
				dir := t.TempDir()
				h, w := pair(t, Options{Window: window, TempDir: dir}, Options{Window: window, TempDir: dir, Handler: echo})
				m := Message{Body: []byte(`{"x":1}`)}
				var want [][]byte
				for _, size := range tc.sizes {
					want = append(want, noise(size))
					m.Attachments = append(m.Attachments, Bytes(want[len(want)-1]))
				}
				got, err := h.Call(patiently(t), "echo", m)
				if err != nil {
					t.Fatal(err)
				}
				if string(got.Body) != `{"x":1}` {
					t.Errorf("the body is %q", got.Body)
				}
				all := contents(t, got)
				if len(all) != len(want) {
					t.Fatalf("%d attachments", len(all))
				}
				for i := range all {
					if !bytes.Equal(all[i], want[i]) {
						t.Errorf("attachment %d differs", i)
					}
				}
				got.Release()
				got.Release()
				if _, err := got.Attachments[0].Open(); !errors.Is(err, errReleased) {
					t.Errorf("a released attachment opens: %v", err)
				}
				left, err := os.ReadDir(dir)
				if err != nil || len(left) != 0 {
					t.Errorf("files are left: %v, %v", left, err)
				}
				nothingLeft(t, h, w)
			})
		}
	}
}

func TestALargeAttachmentHoldsUpNoSmallCall(t *testing.T) {
	h, _ := pair(t, Options{}, Options{Handler: func(_ context.Context, in *Inbound) (Message, error) {
		if len(in.Attachments) > 0 {
			return Message{}, nil
		}
		return in.Message, nil
	}})
	ctx := patiently(t)
	var large sync.WaitGroup
	sent := make(chan struct{})
	large.Go(func() {
		defer close(sent)
		big := Message{Attachments: []Attachment{make(Bytes, 64<<20)}}
		if _, err := h.Call(ctx, "upload", big); err != nil {
			t.Errorf("the large call: %v", err)
		}
	})
	small := 0
	for running := true; running; small++ {
		if _, err := h.Call(ctx, "echo", Message{Body: []byte("1")}); err != nil {
			t.Fatal(err)
		}
		select {
		case <-sent:
			running = false
		default:
		}
	}
	large.Wait()
	if small < 20 {
		t.Errorf("only %d small calls passed while 64 MiB were sent", small)
	}
}

func TestAttachmentsOverTheLimitAreATypedErrorAndTheConnectionSurvives(t *testing.T) {
	ctx := patiently(t)
	t.Run("of a call", func(t *testing.T) {
		h, _ := pair(t, Options{}, Options{MaxAttachments: 1000, Handler: echo})
		var remote *RemoteError
		_, err := h.Call(ctx, "echo", Message{Attachments: []Attachment{make(Bytes, 4<<20)}})
		if !errors.As(err, &remote) || remote.Code() != "invalid_argument" || !strings.Contains(err.Error(), "limit of 1000") {
			t.Errorf("got %v", err)
		}
		if _, err := h.Call(ctx, "echo", Message{Attachments: []Attachment{make(Bytes, 1000)}}); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
	})
	t.Run("of a result", func(t *testing.T) {
		h, w := pair(t, Options{MaxAttachments: 1000}, Options{Handler: func(_ context.Context, in *Inbound) (Message, error) {
			if in.Method == "echo" {
				return in.Message, nil
			}
			return Message{Attachments: []Attachment{make(Bytes, 4<<20)}}, nil
		}})
		if _, err := h.Call(ctx, "m", Message{}); status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("got %v", err)
		}
		if _, err := h.Call(ctx, "echo", Message{}); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
		w.settledSoon(t)
	})
}

// settledSoon waits until the Conn has answered all calls; its peer's CANCEL is on its way.
func (c *Conn) settledSoon(t *testing.T) {
	t.Helper()
	ctx := patiently(t)
	for c.serving() > 0 {
		if _, err := c.Ping(ctx); err != nil { // a round trip each: no busy waiting
			t.Fatal(err)
		}
	}
}

func TestAnAttachmentThatCannotBeReadIsATypedErrorAndTheConnectionSurvives(t *testing.T) {
	broken := map[string]liar{
		"cannot be opened": {size: 3, err: errors.New("gone")},
		"is too short":     {size: 1 << 20, data: make([]byte, 300_000)},
	}
	for name, a := range broken {
		t.Run(name, func(t *testing.T) {
			h, w := pair(t, Options{}, Options{Handler: func(_ context.Context, in *Inbound) (Message, error) {
				if in.Method == "result" {
					return Message{Attachments: []Attachment{a}}, nil
				}
				return in.Message, nil
			}})
			ctx := patiently(t)
			_, err := h.Call(ctx, "echo", Message{Attachments: []Attachment{Bytes("ok"), a}})
			if status.CodeOf(err) != status.InvalidArgument || !strings.Contains(err.Error(), "attachment 1: it cannot be") {
				t.Errorf("in a call: %v", err)
			}
			var remote *RemoteError
			if _, err := h.Call(ctx, "result", Message{}); !errors.As(err, &remote) || remote.Code() != "invalid_argument" {
				t.Errorf("in a result: %v", err)
			}
			if _, err := h.Call(ctx, "echo", Message{}); err != nil {
				t.Errorf("the connection did not survive: %v", err)
			}
			w.settledSoon(t)
		})
	}
}

func TestCancelingACallFreesItsAttachments(t *testing.T) {
	dir := t.TempDir()
	for _, tc := range []struct {
		name string
		size int
	}{{"in memory", 2 << 20}, {"in a file", spillAbove + 1}} {
		t.Run("of a call "+tc.name, func(t *testing.T) {
			h, p := greeted(t, Options{TempDir: dir, Handler: echo}, 100)
			p.call(2, 0, "m", "", int64(tc.size))
			p.send(TypeChunk, FlagAttachments, 2, make([]byte, 500_000))
			p.send(TypeCancel, 0, 2, nil)
			if code := p.expectError(2); code != "canceled" {
				t.Errorf("code %q", code)
			}
			p.send(TypeChunk, FlagAttachments, 2, make([]byte, 500_000)) // was on its way
			p.alive()
			if h.serving() != 0 {
				t.Error("the call is still there")
			}
		})
		t.Run("of a result "+tc.name, func(t *testing.T) {
			h, p := greeted(t, Options{TempDir: dir}, 100)
			s, err := h.Start(patiently(t), "m", Message{})
			if err != nil {
				t.Fatal(err)
			}
			p.expect(TypeCall)
			p.send(TypeResult, FlagAttachments, 1, AppendResultHead(nil, []int64{int64(tc.size)}))
			p.send(TypeChunk, FlagAttachments, 1, make([]byte, 500_000))
			p.alive()
			s.Close()
			await(t, s.Settled(), "settling")
			p.expect(TypeCancel)
			p.send(TypeError, 0, 1, []byte(`{"code":"canceled","message":""}`))
			p.alive()
		})
		t.Run("when the connection is lost "+tc.name, func(t *testing.T) {
			h, p := greeted(t, Options{TempDir: dir, Handler: echo}, 100)
			p.call(2, 0, "m", "", int64(tc.size))
			p.send(TypeChunk, FlagAttachments, 2, make([]byte, 500_000))
			p.alive()
			_ = p.Close()
			await(t, h.Done(), "the loss")
		})
	}
}

func TestAttachmentsThatCannotBeKeptFailOnlyTheirCall(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "missing")
	ctx := patiently(t)
	big := Message{Attachments: []Attachment{make(Bytes, spillAbove+1)}}
	t.Run("of a call", func(t *testing.T) {
		h, _ := pair(t, Options{}, Options{TempDir: dir, Handler: echo})
		var remote *RemoteError
		if _, err := h.Call(ctx, "echo", big); !errors.As(err, &remote) || remote.Code() != "unavailable" {
			t.Errorf("got %v", err)
		}
		if _, err := h.Call(ctx, "echo", Message{}); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
	})
	t.Run("of a result", func(t *testing.T) {
		h, w := pair(t, Options{TempDir: dir}, Options{Handler: echo})
		if _, err := h.Call(ctx, "echo", big); status.CodeOf(err) != status.Unavailable {
			t.Errorf("got %v", err)
		}
		if _, err := h.Call(ctx, "echo", Message{}); err != nil {
			t.Errorf("the connection did not survive: %v", err)
		}
		w.settledSoon(t)
	})
}

func TestAttachmentsWaitForCredit(t *testing.T) {
	h, p := greeted(t, Options{}, 10)
	ctx := patiently(t)
	started := make(chan error, 1)
	go func() {
		_, err := h.Start(ctx, "m", Message{Body: []byte("b"), Attachments: []Attachment{make(Bytes, 300<<10)}})
		started <- err
	}()
	f := p.expect(TypeCall)
	head, body, err := ParseCall(f.payload, f.Flags)
	if err != nil || string(body) != "b" {
		t.Fatal(head, body, err)
	}
	if diff := cmp.Diff([]int64{300 << 10}, head.Sizes); diff != "" {
		t.Error(diff)
	}
	p.expect(TypeChunk) // it may overdraw once
	p.alive()           // and sends no more
	got := attachmentChunk
	for got < 300<<10 {
		p.send(TypeCredit, 0, 1, creditPayload(attachmentChunk))
		got += int(p.expect(TypeChunk).Length)
	}
	if err := <-started; err != nil {
		t.Error(err)
	}
	p.send(TypeResult, 0, 1, nil)
}
