package wire

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"testing"
	"testing/iotest"
)

// The fuzz targets have no recover: a panic of the code is what they look for. Go reads further
// seeds from testdata/fuzz.

const fuzzLimit = 1024

// decodeAll reads a stream to its end.
func decodeAll(r io.Reader, limit int) (frames []received, oversized []Header, err error) {
	d := NewDecoder(r, limit)
	for {
		h, long, err := d.Next()
		if err != nil {
			return frames, oversized, err
		}
		if long {
			oversized = append(oversized, h)
			continue
		}
		payload, err := d.Payload()
		if err != nil {
			return frames, oversized, err
		}
		frames = append(frames, received{h, payload})
	}
}

func FuzzDecode(f *testing.F) {
	for _, v := range golden(f).Vectors {
		f.Add(v.bytes(f))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		frames, oversized, err := decodeAll(bytes.NewReader(data), fuzzLimit)
		slow, slowOver, slowErr := decodeAll(iotest.HalfReader(iotest.OneByteReader(bytes.NewReader(data))), fuzzLimit)
		if len(frames) != len(slow) || len(oversized) != len(slowOver) || err.Error() != slowErr.Error() {
			t.Fatalf("the cutting of the stream changes what it means: %v, %v", err, slowErr)
		}
		for i, fr := range frames {
			if fr.Header != slow[i].Header || !bytes.Equal(fr.payload, slow[i].payload) {
				t.Fatalf("the cutting of the stream changes frame %d: %v, %v", i, fr, slow[i])
			}
		}
		var fault *ProtocolError
		if !errors.Is(err, io.EOF) && !errors.As(err, &fault) {
			t.Fatalf("the stream ended with %v", err)
		}
		var again []byte
		for _, fr := range frames {
			if len(fr.payload) != int(fr.Length) || len(fr.payload) > fuzzLimit {
				t.Fatalf("a payload of %d bytes under a header that says %d", len(fr.payload), fr.Length)
			}
			again = append(AppendHeader(again, fr.Header), fr.payload...)
		}
		if len(oversized) == 0 && !bytes.HasPrefix(data, again) {
			t.Fatalf("%x was read as %x", data, again)
		}
	})
}

func FuzzCallHead(f *testing.F) {
	f.Add(AppendCallHead(nil, "lm.complete", 1, nil), uint8(0))
	f.Add(AppendCallHead(nil, "m", 0, []int64{1, 2}), uint8(FlagAttachments))
	f.Add([]byte{}, uint8(0))
	f.Add([]byte("\x01m12345678\xff\xff"), uint8(FlagAttachments))
	f.Fuzz(func(t *testing.T, payload []byte, flags uint8) {
		head, body, err := ParseCall(payload, flags)
		if err != nil {
			malformed(t, err)
			return
		}
		again := AppendCallHead(nil, string(head.Method), head.Parent, head.Sizes)
		sameHead(t, payload, again, body, head.Sizes, flags)
	})
}

func FuzzResultHead(f *testing.F) {
	f.Add([]byte("{}"), uint8(0))
	f.Add(AppendResultHead(nil, []int64{0, 1 << 40}), uint8(FlagAttachments))
	f.Add([]byte("\x00\x00{}"), uint8(FlagAttachments))
	f.Fuzz(func(t *testing.T, payload []byte, flags uint8) {
		sizes, body, err := ParseResult(payload, flags)
		if err != nil {
			malformed(t, err)
			return
		}
		sameHead(t, payload, AppendResultHead(nil, sizes), body, sizes, flags)
	})
}

func malformed(t *testing.T, err error) {
	t.Helper()
	var fault *ProtocolError
	if !errors.As(err, &fault) || fault.Fault != FaultMalformed {
		t.Fatalf("got %v", err)
	}
}

// sameHead checks that a head is what was read, where it has one form only: an empty table and
// sizes beyond 63 bits have another.
func sameHead(t *testing.T, payload, head, body []byte, sizes []int64, flags uint8) {
	t.Helper()
	if !bytes.HasSuffix(payload, body) {
		t.Fatalf("the body %x is not the end of %x", body, payload)
	}
	if flags&FlagAttachments != 0 && len(sizes) == 0 || sum(sizes) < 0 {
		return
	}
	if slices.Contains(sizes, 1<<63-1) {
		return
	}
	if got := append(head, body...); !bytes.Equal(got, payload) {
		t.Fatalf("%x was read as %x", payload, got)
	}
}

// FuzzConn lets a peer send anything after the handshake: the connection must end or serve, and
// nothing may be left of it.
func FuzzConn(f *testing.F) {
	for _, v := range golden(f).Vectors {
		f.Add(v.bytes(f))
	}
	hello := frameBytes(TypeHello, 0, 0, `{"protocol":1,"role":"worker","max_frame":1024,"window":64}`)
	f.Fuzz(func(t *testing.T, data []byte) {
		a, b := net.Pipe()
		c := NewConn(a, Options{MaxFrame: fuzzLimit, Window: 64, MaxAttachments: 1 << 20, Handler: echo, TempDir: t.TempDir()})
		go func() { _, _ = io.Copy(io.Discard, b) }()
		if _, err := b.Write(hello); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Handshake(t.Context()); err != nil {
			t.Fatal(err)
		}
		// Streams 1 and 3 are there to be answered.
		for range 2 {
			if _, err := c.Start(t.Context(), "m", Message{}, WithHandler(echo)); err != nil {
				t.Fatal(err)
			}
		}
		_, _ = b.Write(data) // it fails where the data is a fault
		_ = b.Close()
		<-c.Done()
		_ = c.Close()
		if err := c.Wait(context.Background()); err != nil || c.Pending() != 0 || c.serving() != 0 {
			t.Fatalf("left: %v, %d streams, %d calls", err, c.Pending(), c.serving())
		}
	})
}
