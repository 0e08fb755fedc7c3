package wire

import (
	"bytes"
	"context"
	"fmt"
	"testing"
)

// BenchmarkEcho measures one call there and back over a socketpair, both sides in this process:
// ns/op and allocs/op are those of both.
func BenchmarkEcho(b *testing.B) {
	for _, clients := range []int{1, 32} {
		for _, size := range []int{100, 10_000} {
			b.Run(fmt.Sprintf("clients=%d/bytes=%d", clients, size), func(b *testing.B) {
				h, _ := pair(b, Options{}, Options{Handler: echo})
				m := Message{Body: bytes.Repeat([]byte("x"), size)}
				ctx := context.Background()
				b.ReportAllocs()
				b.SetBytes(int64(2 * size))
				b.SetParallelism(clients)
				b.ResetTimer()
				if clients == 1 {
					for b.Loop() {
						if _, err := h.Call(ctx, "echo", m); err != nil {
							b.Fatal(err)
						}
					}
					return
				}
				b.RunParallel(func(pb *testing.PB) {
					for pb.Next() {
						if _, err := h.Call(ctx, "echo", m); err != nil {
							b.Error(err)
							return
						}
					}
				})
			})
		}
	}
}

// BenchmarkAttachment measures an attachment's way in one direction.
func BenchmarkAttachment(b *testing.B) {
	for _, size := range []int{1 << 20, 64 << 20} {
		b.Run(fmt.Sprintf("bytes=%d", size), func(b *testing.B) {
			h, _ := pair(b, Options{}, Options{Handler: func(context.Context, *Inbound) (Message, error) {
				return Message{}, nil
			}})
			m := Message{Attachments: []Attachment{make(Bytes, size)}}
			ctx := context.Background()
			b.ReportAllocs()
			b.SetBytes(int64(size))
			for b.Loop() {
				if _, err := h.Call(ctx, "put", m); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkItems measures one item of a result stream.
func BenchmarkItems(b *testing.B) {
	h, _ := pair(b, Options{}, Options{Handler: func(ctx context.Context, in *Inbound) (Message, error) {
		item := bytes.Repeat([]byte("x"), 100)
		for {
			if err := in.Chunk(ctx, item); err != nil {
				return Message{}, err
			}
		}
	}})
	ctx := context.Background()
	s, err := h.Start(ctx, "stream", Message{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Next(ctx); err != nil {
			b.Fatal(err)
		}
	}
	s.Close()
}
