package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

// TestEveryCallEndsAndSettlesOnceWhateverHappensToTheWorker ends a busy worker in every way,
// at random moments, with calls that finish, block, ignore their cancel or give up.
func TestEveryCallEndsAndSettlesOnceWhateverHappensToTheWorker(t *testing.T) {
	ends := map[string]func(p *peer, w *Worker){
		"killed":         func(p *peer, _ *Worker) { p.end(process.Exit{Code: -1, Signal: syscall.SIGKILL}) },
		"exits":          func(p *peer, _ *Worker) { p.end(process.Exit{Code: 0}) },
		"hangs up":       func(p *peer, _ *Worker) { _ = p.far.Close() },
		"deaf":           func(p *peer, _ *Worker) { close(p.deaf) },
		"nonsense":       func(p *peer, _ *Worker) { _, _ = p.far.Write(make([]byte, 64)) },
		"stopped":        func(_ *peer, w *Worker) { _ = w.Stop(context.Background()) },
		"stopped twice":  func(_ *peer, w *Worker) { go func() { _ = w.Stop(context.Background()) }(); stopNow(w) },
		"stopped now":    func(_ *peer, w *Worker) { stopNow(w) },
		"killed in stop": func(p *peer, w *Worker) { go p.Kill(); _ = w.Stop(context.Background()) },
	}
	for name, end := range ends {
		for seed := range uint64(10) {
			bubble(t, name, func(t *testing.T) { endure(t, seed, end) })
		}
	}
}

func stopNow(w *Worker) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_ = w.Stop(ctx)
}

func endure(t *testing.T, seed uint64, end func(p *peer, w *Worker)) {
	rng := rand.New(rand.NewPCG(seed, 3))
	p := newPeer(script{
		"program.run": func(context.Context, *wire.Inbound) (wire.Message, error) {
			<-time.After(20 * time.Millisecond)
			return wire.Message{Body: []byte("{}")}, nil
		},
		"program.block": block,
		"program.deaf": func(context.Context, *wire.Inbound) (wire.Message, error) {
			<-time.After(time.Second)
			return wire.Message{Body: []byte("{}")}, nil
		},
	})
	w := start(t, p, func(o *Options) { o.CancelGrace = 300 * time.Millisecond })
	var began, settled atomic.Int32
	var wg sync.WaitGroup
	for i := range 30 {
		delay := time.Duration(rng.IntN(100)) * time.Millisecond
		patience := time.Duration(rng.IntN(200)+1) * time.Millisecond
		method := []string{"program.run", "program.block", "program.deaf"}[i%3]
		wg.Go(func() {
			<-time.After(delay)
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			began.Add(1)
			asked := time.Now()
			_, err := w.Run(ctx, Call{
				Method: method, Program: Program{Hash: "h", Spec: []byte("{}")}, Settled: func() { settled.Add(1) },
			})
			if took := time.Since(asked); took > patience {
				t.Errorf("%s returned after %v, its time was %v", method, took, patience)
			}
			switch status.CodeOf(err) {
			case 0, status.DeadlineExceeded, status.WorkerLost, status.Unavailable, status.Closed:
			default:
				t.Errorf("%s: %v", method, err)
			}
			var e *status.Error
			if err != nil && (!errors.As(err, &e) || e.Worker != "w1") {
				t.Errorf("%s: not an error of the worker's: %v", method, err)
			}
		})
	}
	<-time.After(time.Duration(rng.IntN(120)) * time.Millisecond)
	end(p, w)
	wg.Wait()
	<-w.Done()
	if err := w.Stop(t.Context()); err != nil && status.CodeOf(err) != status.WorkerLost {
		t.Error(err)
	}
	if err := p.wire.Wait(t.Context()); err != nil { // the peer's own handlers
		t.Error(err)
	}
	synctest.Wait()
	if began.Load() != settled.Load() {
		t.Errorf("%d calls, %d settled", began.Load(), settled.Load())
	}
	if w.Calls() != 0 {
		t.Errorf("%d calls are left", w.Calls())
	}
	if s := w.State(); s != Stopped && s != Lost {
		t.Errorf("state %v", s)
	}
	if (w.State() == Lost) != (w.Err() != nil) {
		t.Errorf("state %v with error %v", w.State(), w.Err())
	}
}
