package worker

import (
	"context"
	"testing"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/wire"
)

// BenchmarkRun is one call to a worker in the same program: what Run adds to the wire is the
// difference to BenchmarkWireCall.
func BenchmarkRun(b *testing.B) {
	w := start(b, newPeer(nil))
	c := Call{Method: "worker.echo", Program: Program{Hash: "h", Spec: []byte("{}")}, Message: wire.Message{Body: []byte(`{"a":1}`)}}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.Run(b.Context(), c); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkWireCall is the same call without a Worker.
func BenchmarkWireCall(b *testing.B) {
	w := start(b, newPeer(nil))
	m := wire.Message{Body: []byte(`{"a":1}`)}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := w.conn.Call(b.Context(), "worker.echo", m); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkLoss is the time from the death of a process to Done.
func BenchmarkLoss(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		p := newPeer(nil)
		p.serve()
		w, err := Start(context.Background(), options(p))
		if err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		p.end(process.Exit{Code: 1})
		<-w.Done()
		b.StopTimer()
		_ = w.Stop(b.Context())
		b.StartTimer()
	}
}
