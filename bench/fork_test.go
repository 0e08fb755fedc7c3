package bench

import (
	"context"
	"reflect"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/internal/worker"
)

// BenchmarkFork is the time from the wish for a worker to its first answer, and that of
// its first prediction.
func BenchmarkFork(b *testing.B) {
	const n = 40
	env, err := pyenv.Ensure(b.Context(), pyenv.Options{})
	if err != nil {
		b.Fatal(err)
	}
	start := time.Now()
	server, err := process.StartServer(b.Context(), process.ServerOptions{
		Python: process.Python{Path: env.Python, Source: env.Source},
	})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(context.Background()); err != nil {
			b.Error(err)
		}
	})
	warm := time.Since(start)
	program, err := spec.Build(spec.Predict, spec.Declaration{
		In: reflect.TypeFor[question](), Out: reflect.TypeFor[answer](), Instructions: "Answer the question.",
	})
	if err != nil {
		b.Fatal(err)
	}
	var ready, first, second []float64
	for b.Loop() {
		for i := range n {
			r, f, s := life(b, server, program, "w"+strconv.Itoa(i))
			ready, first, second = append(ready, r), append(first, f), append(second, s)
		}
	}
	slices.Sort(ready)
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(warm.Seconds()*1e3, "fork-server-ms")
	b.ReportMetric(median(ready), "ready-p50-ms")
	b.ReportMetric(ready[len(ready)*99/100], "ready-p99-ms")
	b.ReportMetric(median(first), "first-call-p50-ms")
	b.ReportMetric(median(second), "second-call-p50-ms")
}

// life starts a worker, makes two calls and stops it. It returns, in ms, how long the
// worker took to be ready and how long each call took.
func life(b *testing.B, server *process.Server, program *spec.Compiled, id string) (ready, first, second float64) {
	b.Helper()
	start := time.Now()
	w, err := worker.Start(b.Context(), worker.Options{
		ID: id,
		Process: func(ctx context.Context) (worker.Process, error) {
			return server.Worker(ctx, process.WorkerOptions{ID: id})
		},
	})
	if err != nil {
		b.Fatal(err)
	}
	ready = time.Since(start).Seconds() * 1e3
	call := func() float64 {
		start := time.Now()
		reply, err := w.Run(b.Context(), worker.Call{
			Method:  "program.run",
			Program: worker.Program{Hash: program.Hash, Spec: program.JSON},
			Message: wire.Message{Body: []byte(`{"program":"` + program.Hash + `","inputs":{"question":"` + asked +
				`"},"lm":{"model":"default","supports":{}},"adapter":{"name":"chat"}}`)},
			Handler: func(context.Context, *wire.Inbound) (wire.Message, error) {
				return wire.Message{Body: []byte(`{"response":{"model":"m","message":{"role":"assistant","parts":` +
					`[{"type":"text","text":` + strconv.Quote(completion) + `}]},"finish_reason":"stop","usage":{}}}`)}, nil
			},
		})
		if err != nil {
			b.Fatal(err)
		}
		reply.Release()
		return time.Since(start).Seconds() * 1e3
	}
	first, second = call(), call()
	if err := w.Stop(b.Context()); err != nil {
		b.Error(err)
	}
	return ready, first, second
}
