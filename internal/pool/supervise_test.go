package pool

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

func TestADeadWorkerIsNeverLeasedAndReplacedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = 3 * time.Millisecond
		p := open(t, f, f.sized(2, 1))
		l := acquire(t, p, AcquireOptions{Prefer: "w1"})
		l.Release()
		l.Worker().die()
		// The watcher may not have run yet; the choice must see the death nevertheless.
		other := acquire(t, p, AcquireOptions{Prefer: "w1"})
		if other.Worker().ID() != "w2" {
			t.Errorf("leased %s after its death", other.Worker().ID())
		}
		began := time.Now()
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		next := acquire(t, p, AcquireOptions{})
		if took := time.Since(began); took != f.delay {
			t.Errorf("capacity was back after %v, a start takes %v", took, f.delay)
		}
		other.Release()
		next.Release()
		if s := p.Stats(); s.Size != 2 || s.Counters.Lost != 1 {
			t.Errorf("size %d, lost %d", s.Size, s.Counters.Lost)
		}
	})
}

func TestASlowStartNeverDelaysALeaseOnAReadyWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		f.set(func(f *farm) { f.delay = 10 * time.Second })
		l := acquire(t, p, AcquireOptions{})
		l.Worker().die()
		l.Release()
		synctest.Wait()
		began := time.Now()
		for range 1000 {
			acquire(t, p, AcquireOptions{}).Release()
		}
		if took := time.Since(began); took != 0 {
			t.Errorf("leases waited %v", took)
		}
	})
}

func TestRestartsInOneSeatBackOffAndAreForgottenWithTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(2, 1)
		cfg.Backoff = Backoff{Base: 100 * time.Millisecond, Max: 30 * time.Second, HalfLife: time.Second, Tolerance: 2}
		p := open(t, f, cfg)
		acquire(t, p, AcquireOptions{Prefer: "w2"}).Release() // w2 has proved itself: the breaker stays out of this
		die := func() {
			l := acquire(t, p, AcquireOptions{Not: []string{"w2"}})
			l.Worker().die()
			l.Release()
			synctest.Wait()
		}
		for range 4 {
			die()
		}
		var delays []time.Duration
		for _, e := range f.kinds(Lost) {
			delays = append(delays, e.Delay)
		}
		// The third restarts after 100 ms; the fourth death comes at once after that start.
		if want := []time.Duration{0, 0, 100 * time.Millisecond, 200 * time.Millisecond}; !equal(delays, want) {
			t.Errorf("delays %v, want %v", delays, want)
		}
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-time.After(10 * time.Second)
		die()
		if d := f.kinds(Lost)[4].Delay; d != 0 {
			t.Errorf("after ten quiet seconds the restart waits %v", d)
		}
	})
}

func TestAWorkerThatServedIsReplacedAtOnceHoweverOftenItDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		for range 100 {
			acquire(t, p, AcquireOptions{}).Release()
			l := acquire(t, p, AcquireOptions{})
			if l.Queued() != 0 {
				t.Fatalf("waited %v for a replacement", l.Queued())
			}
			l.Worker().die()
			l.Release()
			synctest.Wait()
		}
		if n := len(f.kinds(BreakerOpened)); n != 0 {
			t.Errorf("the breaker opened %d times", n)
		}
	})
}

func equal(a, b []time.Duration) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

func TestAStartStormOpensTheBreakerAndEndsByItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		f.set(func(f *farm) { f.broken = errors.New("exec: python3: not found") })
		for _, id := range []string{"w1", "w2"} {
			l := acquire(t, p, AcquireOptions{Prefer: id})
			l.Worker().die()
			l.Release()
		}
		waiting := call(t.Context(), p, AcquireOptions{})
		<-waiting.done
		e := wantCode(t, waiting.err, status.Unavailable)
		if !strings.Contains(e.Message, "python3: not found") || e.RetryAfter <= 0 || !e.Retryable {
			t.Errorf("reason or hint is missing: %+v", e)
		}
		_, err := p.Acquire(t.Context(), AcquireOptions{})
		wantCode(t, err, status.Unavailable)
		if s := p.Stats(); s.Breaker != Open || s.BreakerUntil.IsZero() || s.LastError == nil {
			t.Errorf("the breaker is not visible: %+v", s)
		}

		before := f.starts()
		<-time.After(time.Hour)
		if n := f.starts() - before; n > 130 { // one each 30 s, and the first few
			t.Errorf("%d starts in an hour", n)
		}
		sound(t, p)

		f.set(func(f *farm) { f.broken = nil })
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		acquire(t, p, AcquireOptions{}).Release()
		if s := p.Stats(); s.Breaker != Closed || s.Ready != 2 {
			t.Errorf("not recovered: %+v", s)
		}
	})
}

func TestWorkersThatDieAtOnceAreAStormToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		f.set(func(f *farm) { f.doomed = true })
		for _, id := range []string{"w1", "w2"} {
			l := acquire(t, p, AcquireOptions{Prefer: id})
			l.Worker().die()
			l.Release()
		}
		before := f.starts()
		<-time.After(time.Hour)
		if n := f.starts() - before; n > 300 {
			t.Errorf("%d starts in an hour", n)
		}
		f.set(func(f *farm) { f.doomed = false })
		if err := p.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
	})
}

func TestTheFirstFailureOfALazyPoolReachesItsCallerAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.broken = errors.New("exit status 1")
		cfg := f.sized(1, 1)
		cfg.Lazy = true
		p := open(t, f, cfg)
		began := time.Now()
		_, err := p.Acquire(t.Context(), AcquireOptions{})
		wantCode(t, err, status.Unavailable)
		if took := time.Since(began); took != 0 {
			t.Errorf("told after %v", took)
		}
		f.set(func(f *farm) { f.broken = nil })
		<-time.After(2 * time.Second)
		acquire(t, p, AcquireOptions{}).Release()
	})
}

func TestALazyPoolOfMinimumZeroTriesAgainWhenAsked(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.broken = errors.New("exit status 1")
		cfg := f.sized(1, 1)
		cfg.Min, cfg.Lazy = 0, true
		p := open(t, f, cfg)
		_, err := p.Acquire(t.Context(), AcquireOptions{})
		wantCode(t, err, status.Unavailable)
		starts := f.starts()
		<-time.After(time.Hour)
		if f.starts() != starts {
			t.Error("nobody asked, but workers were started")
		}
		f.set(func(f *farm) { f.broken = nil })
		acquire(t, p, AcquireOptions{}).Release()
	})
}

func TestThePoolGrowsForCallersThatHaveWaitedAndServesThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = time.Millisecond
		cfg := f.sized(1, 1)
		cfg.Max, cfg.Overflow, cfg.IdleTimeout = 2, 1, time.Minute
		p := open(t, f, cfg)
		l := acquire(t, p, AcquireOptions{})
		began := time.Now()
		var leases []*Lease[*fake]
		for range 2 {
			g := acquire(t, p, AcquireOptions{})
			leases = append(leases, g)
		}
		if took := time.Since(began); took != 2*(cfg.GrowAfter+f.delay) {
			t.Errorf("grown twice after %v", took)
		}
		if s := p.Stats(); s.Size != 2 || s.Ready != 3 {
			t.Errorf("%d seats, %d workers", s.Size, s.Ready)
		}
		last := call(t.Context(), p, AcquireOptions{})
		<-time.After(time.Hour)
		if last.finished() || f.living() != 3 {
			t.Error("the pool grew beyond its limits")
		}
		leases[1].Release() // an overflow worker goes on while callers queue
		synctest.Wait()
		if last.lease == nil || last.lease.Worker() != leases[1].Worker() {
			t.Fatal("the overflow worker did not serve who queued")
		}
		last.lease.Release()
		synctest.Wait()
		if f.living() != 2 {
			t.Error("an overflow worker stayed although nobody queues")
		}
		leases[0].Release()
		l.Release()
		<-time.After(cfg.IdleTimeout - 1)
		if f.living() != 2 {
			t.Error("shrunk too early")
		}
		<-time.After(1)
		synctest.Wait()
		s := p.Stats()
		if f.living() != 1 || s.Size != 1 || s.Workers[0].Seat != 0 {
			t.Errorf("not back to the minimum, last grown first: %+v", s.Workers)
		}
	})
}

func TestTheLastGrownWorkerGoesFirstAlsoIfItWasUsedLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(1, 1)
		cfg.Max, cfg.IdleTimeout = 3, time.Minute
		p := open(t, f, cfg)
		var leases []*Lease[*fake]
		for range 3 {
			leases = append(leases, acquire(t, p, AcquireOptions{}))
		}
		for _, l := range leases { // the first worker is idle for the longest time
			<-time.After(time.Second)
			l.Release()
		}
		<-time.After(time.Hour)
		synctest.Wait()
		var seats []int
		for _, e := range f.kinds(Shrunk) {
			seats = append(seats, e.Seat)
		}
		if len(seats) != 2 || seats[0] != 2 || seats[1] != 1 {
			t.Errorf("seats were given up in the order %v, want 2, 1", seats)
		}
		if s := p.Stats(); s.Ready != 1 || s.Workers[0].ID != "w1" {
			t.Errorf("%+v are left, want w1", s.Workers)
		}
	})
}

func TestThePoolGrowsByAsManyWorkersAsCallersNeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(1, 2)
		cfg.Max = 8
		p := open(t, f, cfg)
		var callers []*caller
		for range 2 + 5 { // two fill the worker, five need three more
			callers = append(callers, call(t.Context(), p, AcquireOptions{}))
		}
		f.set(func(f *farm) { f.delay = time.Second })
		<-time.After(cfg.GrowAfter)
		synctest.Wait()
		if n := p.Stats().Starting; n != 3 {
			t.Errorf("%d starts, want 3", n)
		}
		for _, c := range callers {
			<-c.done
			if c.err != nil {
				t.Fatal(c.err)
			}
			c.lease.Release()
		}
	})
}

func TestADemandStartThatFailsIsNotRepeatedWithoutDemand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(1, 1)
		cfg.Max = 2
		p := open(t, f, cfg)
		l := acquire(t, p, AcquireOptions{})
		f.set(func(f *farm) { f.broken = errors.New("no memory") })
		waiting := call(t.Context(), p, AcquireOptions{})
		<-time.After(cfg.GrowAfter)
		synctest.Wait()
		l.Release()
		<-waiting.done
		waiting.lease.Release()
		starts := f.starts()
		<-time.After(time.Hour)
		if n := f.starts() - starts; n != 0 || p.Stats().Size != 1 {
			t.Errorf("%d more starts, size %d", n, p.Stats().Size)
		}
	})
}

func TestResetReplacesAllWithoutRefusingOrCuttingALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		f.delay = time.Second
		p := open(t, f, f.sized(3, 1))
		held := acquire(t, p, AcquireOptions{Prefer: "w1"})
		reset := make(chan error, 1)
		go func() { reset <- p.Reset(t.Context()) }()
		for range 50 { // five seconds of callers, each at once served by one of three
			l := acquire(t, p, AcquireOptions{})
			if l.Queued() != 0 {
				t.Fatalf("a caller queued for %v", l.Queued())
			}
			if n := f.living(); n > 4+1 { // one successor, and w1 that still drains
				t.Fatalf("%d workers at once", n)
			}
			<-time.After(100 * time.Millisecond)
			l.Release()
			sound(t, p)
		}
		select {
		case err := <-reset:
			t.Fatalf("done although w1 is leased: %v", err)
		default:
		}
		select {
		case <-held.Worker().Done():
			t.Fatal("w1 was stopped under its lease")
		default:
		}
		held.Release()
		if err := <-reset; err != nil {
			t.Fatal(err)
		}
		for _, w := range p.Stats().Workers {
			if w.Generation != 2 {
				t.Errorf("%s is of generation %d", w.ID, w.Generation)
			}
		}
	})
}

func TestAResetThatCannotStartWorkersKeepsTheOldOnes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		f.set(func(f *farm) { f.broken = errors.New("syntax error") })
		reset := make(chan error, 1)
		go func() { reset <- p.Reset(t.Context()) }()
		<-time.After(time.Minute)
		acquire(t, p, AcquireOptions{}).Release()
		if s := p.Stats(); s.Ready != 2 {
			t.Errorf("%d ready", s.Ready)
		}
		f.set(func(f *farm) { f.broken = nil })
		if err := <-reset; err != nil {
			t.Error(err)
		}
	})
}
