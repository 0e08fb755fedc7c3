package pool

import (
	"context"
	"sync"
	"testing"
	"time"
)

// BenchmarkLease is what a call pays for its slot when one is free.
func BenchmarkLease(b *testing.B) {
	for name, workers := range map[string]int{"4 workers": 4, "64 workers": 64} {
		b.Run(name, func(b *testing.B) {
			f := newFarm()
			p := open(b, f, f.sized(workers, 16))
			b.ReportAllocs()
			for b.Loop() {
				l, err := p.Acquire(b.Context(), AcquireOptions{})
				if err != nil {
					b.Fatal(err)
				}
				l.Release()
			}
		})
	}
}

// BenchmarkLeaseContended is the same from as many goroutines as there are processors.
func BenchmarkLeaseContended(b *testing.B) {
	f := newFarm()
	p := open(b, f, f.sized(4, 64))
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			l, err := p.Acquire(b.Context(), AcquireOptions{})
			if err != nil {
				b.Error(err)
				return
			}
			l.Release()
		}
	})
}

// BenchmarkHandover is what a slot costs that goes from one caller to the next in a queue
// of 10,000.
func BenchmarkHandover(b *testing.B) {
	f := newFarm()
	cfg := f.sized(2, 1)
	cfg.Queue = 10_000
	p := open(b, f, cfg)
	ctx, cancel := context.WithCancel(b.Context())
	defer cancel()
	var turns sync.WaitGroup
	left := make(chan struct{}, b.N) // one for each handover that is measured
	for range b.N {
		left <- struct{}{}
	}
	close(left)
	hold := []*Lease[*fake]{acquire(b, p, AcquireOptions{}), acquire(b, p, AcquireOptions{})}
	for range 10_000 {
		turns.Go(func() {
			for range left {
				l, err := p.Acquire(ctx, AcquireOptions{})
				if err != nil {
					b.Error(err)
					return
				}
				l.Release()
			}
		})
	}
	for p.Stats().Queued < min(b.N, 10_000) {
		<-time.After(time.Millisecond)
	}
	b.ReportAllocs()
	b.ResetTimer()
	for _, l := range hold {
		l.Release()
	}
	turns.Wait()
}

// BenchmarkLeaveQueue is what a caller costs that gives up in a queue of 10,000.
func BenchmarkLeaveQueue(b *testing.B) {
	f := newFarm()
	cfg := f.sized(1, 1)
	cfg.Queue = 10_001
	p := open(b, f, cfg)
	held := acquire(b, p, AcquireOptions{})
	ctx, cancel := context.WithCancel(b.Context())
	var callers []*caller
	for range 10_000 {
		callers = append(callers, call(ctx, p, AcquireOptions{}))
	}
	for p.Stats().Queued < 10_000 {
		<-time.After(time.Millisecond)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.mu.Lock()
		w := p.enqueue(AcquireOptions{}, nil, time.Now())
		p.leave(w)
		p.settle(time.Now())
		p.mu.Unlock()
	}
	cancel()
	for _, c := range callers {
		<-c.done
	}
	held.Release()
}

// BenchmarkRecovery is the pool's own part of a recovery: from a worker's death to a lease
// on its successor, with a start that takes no time.
func BenchmarkRecovery(b *testing.B) {
	f := newFarm()
	cfg := f.sized(1, 1)
	cfg.Backoff = Backoff{Tolerance: 1 << 30}
	p := open(b, f, cfg)
	b.ReportAllocs()
	for b.Loop() {
		l, err := p.Acquire(b.Context(), AcquireOptions{})
		if err != nil {
			b.Fatal(err)
		}
		l.Worker().die()
		l.Release()
	}
}

// BenchmarkStopIdle is the stop of a pool that does nothing.
func BenchmarkStopIdle(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		f := newFarm()
		p := build(b, f.sized(8, 16))
		if err := p.Start(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		if err := p.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}
