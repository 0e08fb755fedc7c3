// Package bench compares dspex with the work itself, in one run on one machine. Run it
// with
//
//	go test -bench . -benchtime 5x ./bench/...
//
// Each iteration is one round of every contender in turn; the figures are medians over
// the rounds.
package bench

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

type question struct {
	Question string `json:"question"`
}

type answer struct {
	Answer string `json:"answer"`
}

const (
	asked      = "What is the capital of France?"
	completion = "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]\n"
)

func program() *dspex.Program[question, answer] {
	return dspex.Predict[question, answer]("Answer the question.")
}

func instant() lm.Model {
	return scripted.Func(func(context.Context, *lm.Request) (string, error) { return completion, nil })
}

func open(b *testing.B, settings dspex.Settings) *dspex.Runtime {
	b.Helper()
	rt, err := dspex.Open(b.Context(), dspex.Config{LM: instant(), Settings: settings})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { shut(b, rt) })
	return rt
}

// shut closes a Runtime; again does nothing.
func shut(b *testing.B, rt *dspex.Runtime) {
	b.Helper()
	if err := rt.Close(context.Background()); err != nil {
		b.Error(err)
	}
}

// predict makes one call and checks its answer.
func predict(b *testing.B, rt *dspex.Runtime, p *dspex.Program[question, answer]) {
	pred, err := p.Run(b.Context(), rt, question{asked})
	if err != nil {
		b.Error(err)
		return
	}
	if pred.Output.Answer != "Paris" {
		b.Errorf("the answer is %q", pred.Output.Answer)
	}
}

// throughput makes n calls from the given number of clients and returns how long they took.
func throughput(b *testing.B, rt *dspex.Runtime, n, clients int) time.Duration {
	b.Helper()
	p := program()
	work := make(chan struct{}, n)
	for range n {
		work <- struct{}{}
	}
	close(work)
	start := time.Now()
	var running sync.WaitGroup
	for range clients {
		running.Go(func() {
			for range work {
				predict(b, rt, p)
			}
		})
	}
	running.Wait()
	return time.Since(start)
}

// BenchmarkThroughput is the rate of one worker, 32 clients, ÷ that of a plain DSPy loop.
func BenchmarkThroughput(b *testing.B) {
	const n = 2000
	loop := startBare(b)
	rt := open(b, dspex.Settings{Min: 1, Max: 1})
	throughput(b, rt, 200, 32)
	var ours, theirs, ratios []float64
	for b.Loop() {
		t := n / loop.run(b, n).Seconds()
		o := n / throughput(b, rt, n, 32).Seconds()
		theirs, ours, ratios = append(theirs, t), append(ours, o), append(ratios, o/t)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(theirs), "bare-predicts/s")
	b.ReportMetric(median(ours), "predicts/s")
	b.ReportMetric(median(ratios), "÷bare")
}

// BenchmarkCall is the latency of one call by one client, and what of it is not DSPy's.
func BenchmarkCall(b *testing.B) {
	const n = 500
	loop := startBare(b)
	rt := open(b, dspex.Settings{Min: 1, Max: 1})
	p := program()
	throughput(b, rt, 200, 1)
	var p50s, p99s, added []float64
	for b.Loop() {
		alone := loop.run(b, n).Seconds() / n * 1e6
		times := make([]float64, 0, n)
		for range n {
			start := time.Now()
			predict(b, rt, p)
			times = append(times, time.Since(start).Seconds()*1e6)
		}
		slices.Sort(times)
		p50s, p99s = append(p50s, times[n/2]), append(p99s, times[n*99/100])
		added = append(added, times[n/2]-alone)
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(p50s), "p50-µs")
	b.ReportMetric(median(p99s), "p99-µs")
	b.ReportMetric(median(added), "added-p50-µs")
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}
