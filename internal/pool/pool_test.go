package pool

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/lifecycle/lifecycletest"
	"github.com/dspex/dspex/internal/status"
)

func TestAPoolKeepsTheLifecycleContract(t *testing.T) {
	for name, lazy := range map[string]bool{"eager": false, "lazy": true} {
		t.Run(name, func(t *testing.T) {
			lifecycletest.Stress(t, func(t testing.TB) lifecycletest.Component {
				f := newFarm()
				cfg := f.sized(3, 2)
				cfg.Lazy = lazy
				return build(t, cfg)
			})
		})
	}
}

func TestContradictorySizesAreRefused(t *testing.T) {
	good := newFarm().sized(2, 1)
	cases := map[string]func(c *Config[*fake]){
		"no start function":       func(c *Config[*fake]) { c.Start = nil },
		"no workers":              func(c *Config[*fake]) { c.Min, c.Max = 0, 0 },
		"minimum over maximum":    func(c *Config[*fake]) { c.Min = 3 },
		"negative minimum":        func(c *Config[*fake]) { c.Min = -1 },
		"no slots":                func(c *Config[*fake]) { c.Slots = 0 },
		"negative overflow":       func(c *Config[*fake]) { c.Overflow = -1 },
		"negative queue":          func(c *Config[*fake]) { c.Queue = -1 },
		"lazy without a queue":    func(c *Config[*fake]) { c.Lazy, c.Queue = true, 0 },
		"growth without a queue":  func(c *Config[*fake]) { c.Max, c.Queue = 3, 0 },
		"negative growth time":    func(c *Config[*fake]) { c.GrowAfter = -1 },
		"negative idle time":      func(c *Config[*fake]) { c.IdleTimeout = -1 },
		"negative backoff":        func(c *Config[*fake]) { c.Backoff.Base = -1 },
		"negative open time":      func(c *Config[*fake]) { c.Breaker.Base = -1 },
		"negative open threshold": func(c *Config[*fake]) { c.Breaker.Threshold = -1 },
	}
	for name, spoil := range cases {
		t.Run(name, func(t *testing.T) {
			cfg := good
			spoil(&cfg)
			_, err := New(cfg)
			wantCode(t, err, status.InvalidArgument)
		})
	}
}

func TestStartWaitsForTheMinimumAndStartsConcurrently(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = time.Second
		began := time.Now()
		p := open(t, f, f.sized(5, 1))
		if took := time.Since(began); took != time.Second {
			t.Errorf("five starts of 1s each took %v", took)
		}
		if n := p.Stats().Ready; n != 5 {
			t.Errorf("%d workers are ready", n)
		}
	})
}

func TestAFailingStartIsReportedAtOnceAndLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.broken = errors.New("exit status 3: no module named dspy")
		p := build(t, f.sized(2, 1))
		began := time.Now()
		err := p.Start(t.Context())
		e := wantCode(t, err, status.Unavailable)
		if !strings.Contains(e.Message, "no module named dspy") {
			t.Errorf("the reason is missing: %v", e)
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("reported after %v", took)
		}
		_, err = p.Acquire(t.Context(), AcquireOptions{})
		wantCode(t, err, status.Closed)
		sound(t, p)
	})
}

func TestStopDuringASlowStartEndsBoth(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = time.Hour
		p := build(t, f.sized(2, 1))
		result := make(chan error, 1)
		go func() { result <- p.Start(t.Context()) }()
		synctest.Wait()
		if err := p.Stop(t.Context()); err != nil {
			t.Errorf("Stop: %v", err)
		}
		wantCode(t, <-result, status.Closed)
		if n := f.living(); n != 0 {
			t.Errorf("%d workers live", n)
		}
	})
}

func TestALazyPoolStartsOnFirstUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = time.Second
		cfg := f.sized(2, 1)
		cfg.Lazy = true
		p := open(t, f, cfg)
		<-time.After(time.Hour)
		if n := f.starts(); n != 0 {
			t.Fatalf("%d workers were started before anybody asked", n)
		}
		l := acquire(t, p, AcquireOptions{})
		if l.Queued() != time.Second {
			t.Errorf("queued for %v", l.Queued())
		}
		l.Release()
		if err := p.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if n := f.starts(); n != 2 {
			t.Errorf("%d workers were started, the minimum is 2", n)
		}
	})
}

func TestReadyWarmsALazyPool(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(2, 1)
		cfg.Lazy = true
		p := open(t, f, cfg)
		if err := p.Ready(t.Context()); err != nil {
			t.Error(err)
		}
		if n := p.Stats().Ready; n != 2 {
			t.Errorf("%d ready", n)
		}
	})
}

func TestReadyAndIdleSayWhatIsMissingWhenTheirTimeIsUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		l := acquire(t, p, AcquireOptions{})
		f.set(func(f *farm) { f.broken = errors.New("no memory") })
		l.Worker().die()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Ready(ctx)
		if e := wantCode(t, err, status.DeadlineExceeded); !strings.Contains(e.Message, "no memory") {
			t.Errorf("the reason is missing: %v", e)
		}
		if e := wantCode(t, p.Idle(ctx), status.DeadlineExceeded); !strings.Contains(e.Message, "1 leases are held") {
			t.Errorf("the reason is missing: %v", e)
		}
		l.Release()
		if err := p.Idle(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestIdleIsAnEvent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		a := acquire(t, p, AcquireOptions{})
		b := call(t.Context(), p, AcquireOptions{})
		idle := make(chan error, 1)
		go func() { idle <- p.Idle(t.Context()) }()
		synctest.Wait()
		a.Release()
		synctest.Wait()
		select {
		case err := <-idle:
			t.Fatalf("idle while a lease is held: %v", err)
		default:
		}
		b.lease.Release()
		if err := <-idle; err != nil {
			t.Error(err)
		}
	})
}

func TestStopDrainsLeasesAndClosesWaiters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		a, b := acquire(t, p, AcquireOptions{}), acquire(t, p, AcquireOptions{})
		waiting := call(t.Context(), p, AcquireOptions{})
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- p.Stop(t.Context()) }()
		synctest.Wait()
		wantCode(t, waiting.err, status.Closed)
		_, err := p.Acquire(t.Context(), AcquireOptions{})
		wantCode(t, err, status.Closed)
		if f.living() != 2 {
			t.Error("a worker was stopped under its lease")
		}
		a.Release()
		synctest.Wait()
		if f.living() != 1 {
			t.Error("a worker without leases must stop while another drains")
		}
		b.Release()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
		if s := p.Stats(); s.Counters.Closed != 1 || s.Counters.Cut != 0 {
			t.Errorf("counters: %+v", s.Counters)
		}
	})
}

func TestStopKillsWhatStillRunsWhenItsContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.stuck = time.Hour
		p := open(t, f, f.sized(2, 2))
		a, b := acquire(t, p, AcquireOptions{}), acquire(t, p, AcquireOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		wantCode(t, p.Stop(ctx), status.DeadlineExceeded)
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v", took)
		}
		if !a.Worker().killed || !b.Worker().killed {
			t.Error("workers were not killed")
		}
		if n := p.Stats().Counters.Cut; n != 2 {
			t.Errorf("%d leases cut, want 2", n)
		}
		a.Release()
		b.Release()
		if n := p.Stats().Leased; n != 0 {
			t.Errorf("%d leases are left", n)
		}
	})
}

func TestStatsTellTheWholeStateAndShareNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 2))
		l := acquire(t, p, AcquireOptions{Prefer: "w2"})
		s := p.Stats()
		since := s.Workers[0].Since
		want := Stats{
			Min: 2, Max: 2, Slots: 2, Queue: 16, Generation: 1, Size: 2, Ready: 2, Leased: 1, Free: 3,
			Workers: []WorkerStats{
				{ID: "w1", Generation: 1, State: "ready", Since: since},
				{ID: "w2", Seat: 1, Generation: 1, State: "ready", InUse: 1, Since: since},
			},
			Counters: Counters{Leases: 1, Started: 2},
		}
		if diff := cmp.Diff(want, s); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		s.Workers[0].ID = "spoiled"
		if p.Stats().Workers[0].ID != "w1" {
			t.Error("a snapshot reaches into the pool")
		}
		l.Release()
	})
}
