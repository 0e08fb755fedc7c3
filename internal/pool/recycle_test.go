package pool

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// recycling is a pool of two workers whose starts take a second.
func recycling(t *testing.T, f *farm, r Recycle) *Pool[*fake] {
	t.Helper()
	cfg := f.sized(2, 1)
	cfg.Recycle, cfg.Memory = r, f.memory
	p := open(t, f, cfg)
	f.set(func(f *farm) { f.delay = time.Second })
	return p
}

// reasons lists why workers were drained.
func (f *farm) reasons() []string {
	var out []string
	for _, e := range f.kinds(Draining) {
		out = append(out, e.Worker+": "+e.Reason)
	}
	return out
}

func wantReasons(t *testing.T, f *farm, want ...string) {
	t.Helper()
	got := f.reasons()
	if len(got) != len(want) {
		t.Fatalf("drained %q, want %q", got, want)
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("drained %q, want %q", got[i], want[i])
		}
	}
}

func TestAWorkerThatHasServedItsRequestsIsReplacedByAReadyOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Requests: 3})
		for range 3 {
			acquire(t, p, AcquireOptions{Prefer: "w1"}).Release()
		}
		synctest.Wait()
		if s := p.Stats(); s.Starting != 1 || s.Ready != 2 {
			t.Fatalf("%d starting, %d ready: the successor must be warm first", s.Starting, s.Ready)
		}
		held := acquire(t, p, AcquireOptions{Prefer: "w1"}) // it goes on meanwhile
		<-time.After(time.Second)
		synctest.Wait()
		if s := p.Stats(); s.Ready != 2 || s.Draining != 1 || s.Counters.Recycled != 1 {
			t.Errorf("%d ready, %d draining, %d recycled", s.Ready, s.Draining, s.Counters.Recycled)
		}
		if !held.Worker().alive() {
			t.Error("the worker ended under its lease")
		}
		wantReasons(t, f, "w1: it has served 3 requests")
		held.Release()
		synctest.Wait()
		if held.Worker().alive() || held.Worker().killed {
			t.Error("the old worker was not stopped in peace")
		}
		sound(t, p)
	})
}

func TestWorkersOfOneAgeAreReplacedOneAfterTheOtherAndNotTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(8, 1)
		cfg.Recycle = Recycle{Age: time.Hour}
		p := open(t, f, cfg)
		began := time.Now()
		f.set(func(f *farm) { f.delay = time.Millisecond })
		<-time.After(54 * time.Minute)
		synctest.Wait()
		if n := f.starts(); n != 8 {
			t.Errorf("%d starts before any worker was old enough", n)
		}
		<-time.After(6*time.Minute + 10*time.Millisecond)
		synctest.Wait()
		ends := f.kinds(Draining)
		if len(ends) != 8 {
			t.Fatalf("%d of 8 were replaced within the hour", len(ends))
		}
		if first, last := ends[0].Time.Sub(began), ends[7].Time.Sub(began); last-first < time.Minute {
			t.Errorf("all were replaced between %v and %v", first, last)
		}
		if s := p.Stats(); s.Ready != 8 || s.Counters.Lost != 0 {
			t.Errorf("%d ready, %d lost", s.Ready, s.Counters.Lost)
		}
	})
}

func TestAWorkerThatGrewTooLargeIsReplaced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Memory: 100})
		l := acquire(t, p, AcquireOptions{Prefer: "w1"})
		f.set(func(*farm) { l.Worker().bytes = 100 })
		l.Release()
		<-time.After(time.Hour)
		if n := f.looks(); n != 1 {
			t.Errorf("an idle worker was measured %d times after one request", n)
		}
		if len(f.reasons()) != 0 {
			t.Errorf("drained at the limit: %v", f.reasons())
		}
		for range 1000 { // a second of requests
			l := acquire(t, p, AcquireOptions{Prefer: "w1"})
			<-time.After(time.Millisecond)
			f.set(func(*farm) { l.Worker().bytes = 101 })
			l.Release()
		}
		<-time.After(2 * time.Second)
		synctest.Wait()
		wantReasons(t, f, "w1: it uses 101 bytes")
		if n := f.looks(); n > 4 {
			t.Errorf("measured %d times in three seconds", n)
		}
		sound(t, p)
	})
}

func TestAWorkerWhoseMemoryIsNotKnownStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Memory: 100})
		f.set(func(f *farm) { f.unmeasurable = errors.New("no such file") })
		acquire(t, p, AcquireOptions{}).Release()
		<-time.After(time.Hour)
		wantReasons(t, f)
		if n := f.looks(); n != 1 {
			t.Errorf("measured %d times after one request", n)
		}
	})
}

func TestAWorkerThatRestsAfterWorkIsReplacedOnceAndAFreshOneNever(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Idle: time.Minute})
		for range 4 {
			<-time.After(50 * time.Second)
			acquire(t, p, AcquireOptions{Prefer: "w1"}).Release()
		}
		wantReasons(t, f)
		<-time.After(time.Minute + time.Second)
		synctest.Wait()
		wantReasons(t, f, "w1: it was idle for 1m0s")
		<-time.After(24 * time.Hour)
		if n := f.starts(); n != 3 {
			t.Errorf("%d starts, want the first two and one successor", n)
		}
	})
}

func TestAWornWorkerGoesOnForAsLongAsNoSuccessorCanBeStarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Requests: 1})
		f.set(func(f *farm) { f.broken, f.delay = errors.New("no memory"), 0 })
		for range 1000 {
			l := acquire(t, p, AcquireOptions{})
			if l.Queued() != 0 {
				t.Fatalf("a caller queued for %v", l.Queued())
			}
			<-time.After(100 * time.Millisecond)
			l.Release()
		}
		wantReasons(t, f)
		if n := f.starts(); n > 30 {
			t.Errorf("%d starts were tried in 100 s", n)
		}
		f.set(func(f *farm) { f.broken = nil })
		<-time.After(time.Minute)
		synctest.Wait()
		if n := p.Stats().Counters.Recycled; n != 1 { // the other one was never needed
			t.Errorf("%d were recycled once it was possible, want 1", n)
		}
	})
}

func TestCallersWhoWaitForAWornWorkerAloneAreServedByIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Requests: 1})
		pin := AcquireOptions{Prefer: "w1", Pin: true}
		acquire(t, p, pin).Release() // worn
		held := acquire(t, p, pin)
		first := call(t.Context(), p, pin)
		synctest.Wait()
		second := call(t.Context(), p, pin)
		<-time.After(time.Second)
		synctest.Wait()
		wantReasons(t, f, "w1: it has served 1 requests")
		_, err := p.Acquire(t.Context(), pin)
		wantCode(t, err, status.WorkerLost)
		sound(t, p)
		held.Release()
		for _, c := range []*caller{first, second} {
			<-c.done
			if c.err != nil || c.lease.Worker().ID() != "w1" {
				t.Fatalf("got %v, %v", c.lease, c.err)
			}
			sound(t, p)
			c.lease.Release()
		}
		synctest.Wait()
		if held.Worker().alive() {
			t.Error("w1 did not end after its last caller")
		}
	})
}

func TestStopRefusesCallersWhoWaitForADrainingWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := recycling(t, f, Recycle{Requests: 1})
		pin := AcquireOptions{Prefer: "w1", Pin: true}
		acquire(t, p, pin).Release()
		held := acquire(t, p, pin)
		waiting := call(t.Context(), p, pin)
		<-time.After(time.Second)
		synctest.Wait()
		stopped := make(chan error, 1)
		go func() { stopped <- p.Stop(t.Context()) }()
		<-waiting.done
		wantCode(t, waiting.err, status.Closed)
		held.Release()
		if err := <-stopped; err != nil {
			t.Error(err)
		}
	})
}

func TestAnOverflowWorkerIsRecycledWhileCallersQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(1, 1)
		cfg.Overflow, cfg.Recycle = 1, Recycle{Requests: 5}
		cfg.Queue = 100
		p := open(t, f, cfg)
		var callers []*caller
		for range 50 {
			callers = append(callers, call(t.Context(), p, AcquireOptions{}))
		}
		for range 50 {
			<-time.After(cfg.GrowAfter)
			synctest.Wait()
			for i := 0; i < len(callers); {
				if !callers[i].finished() {
					i++
					continue
				}
				if callers[i].err != nil {
					t.Fatal(callers[i].err)
				}
				callers[i].lease.Release()
				callers = append(callers[:i], callers[i+1:]...)
			}
			sound(t, p)
		}
		if len(callers) != 0 {
			t.Errorf("%d callers were not served", len(callers))
		}
		if n := p.Stats().Counters.Recycled; n < 8 {
			t.Errorf("%d workers were recycled for 50 requests of 5 each", n)
		}
	})
}

func TestLimitsThatMakeNoSenseAreRefused(t *testing.T) {
	f := newFarm()
	for name, r := range map[string]Recycle{
		"negative requests":      {Requests: -1},
		"negative age":           {Age: -1},
		"negative idle time":     {Idle: -1},
		"negative memory":        {Memory: -1},
		"memory nobody measures": {Memory: 1},
	} {
		cfg := f.sized(1, 1)
		cfg.Recycle = r
		if _, err := New(cfg); status.CodeOf(err) != status.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
}
