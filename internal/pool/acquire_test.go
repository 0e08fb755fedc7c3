package pool

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dspex/dspex/internal/status"
)

func TestSixCallersOnTwoWorkersAllSucceedAndTheSeventhIsOverloaded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		cfg := f.sized(2, 1)
		cfg.Queue = 4
		p := open(t, f, cfg)
		var callers []*caller
		for range 6 {
			callers = append(callers, call(t.Context(), p, AcquireOptions{}))
		}
		synctest.Wait()
		began := time.Now()
		_, err := p.Acquire(t.Context(), AcquireOptions{})
		if took := time.Since(began); took != 0 {
			t.Errorf("refused after %v", took)
		}
		e := wantCode(t, err, status.Overloaded)
		if !e.Retryable || e.RetryAfter <= 0 {
			t.Errorf("no retry hint: %+v", e)
		}
		for range 3 {
			for _, c := range callers {
				if c.finished() && c.lease != nil {
					c.lease.Release()
				}
			}
			synctest.Wait()
		}
		for i, c := range callers {
			if c.err != nil || c.lease == nil {
				t.Errorf("caller %d: %v", i, c.err)
			}
		}
	})
}

func TestTheQueueIsFirstComeFirstServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		l := acquire(t, p, AcquireOptions{})
		var callers []*caller
		for range 10 {
			callers = append(callers, call(t.Context(), p, AcquireOptions{}))
			synctest.Wait()
		}
		for i, c := range callers {
			l.Release()
			synctest.Wait()
			if !c.finished() {
				t.Fatalf("caller %d was not next", i)
			}
			for _, later := range callers[i+1:] {
				if later.finished() {
					t.Fatalf("a later caller passed caller %d", i)
				}
			}
			l = c.lease
		}
		l.Release()
	})
}

func TestACallerThatLeavesTheQueueTakesNothingWithIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		l := acquire(t, p, AcquireOptions{})
		canceled, cancel := context.WithCancel(t.Context())
		first := call(canceled, p, AcquireOptions{})
		synctest.Wait()
		second := call(t.Context(), p, AcquireOptions{})
		synctest.Wait()
		cancel()
		synctest.Wait()
		if wantCode(t, first.err, status.Canceled); !errors.Is(first.err, context.Canceled) {
			t.Error("errors.Is must match context.Canceled")
		}
		sound(t, p)
		l.Release()
		synctest.Wait()
		if second.lease == nil {
			t.Fatal("the second caller was not served")
		}
		second.lease.Release()
	})
}

func TestTheDeadlineEndsTheWaitExactly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 1))
		l := acquire(t, p, AcquireOptions{})
		ctx, cancel := context.WithTimeout(t.Context(), 70*time.Millisecond)
		defer cancel()
		began := time.Now()
		_, err := p.Acquire(ctx, AcquireOptions{})
		wantCode(t, err, status.DeadlineExceeded)
		if took := time.Since(began); took != 70*time.Millisecond {
			t.Errorf("waited %v", took)
		}
		_, err = p.Acquire(ctx, AcquireOptions{})
		wantCode(t, err, status.DeadlineExceeded)
		l.Release()
	})
}

func TestTheLeastLoadedThenTheMostRecentlyUsedWorkerIsChosen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(3, 2))
		seen := map[string]int{}
		var leases []*Lease[*fake]
		for range 3 {
			l := acquire(t, p, AcquireOptions{})
			seen[l.Worker().ID()]++
			leases = append(leases, l)
		}
		if len(seen) != 3 {
			t.Errorf("three leases on %d workers: %v", len(seen), seen)
		}
		for _, l := range leases {
			l.Release()
		}
		last := leases[2].Worker().ID()
		for range 5 {
			l := acquire(t, p, AcquireOptions{})
			if l.Worker().ID() != last {
				t.Errorf("got %s, the last used is %s", l.Worker().ID(), last)
			}
			l.Release()
		}
	})
}

func TestPreferTakesTheWorkerIfItIsFreeElseAnother(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		a := acquire(t, p, AcquireOptions{Prefer: "w1"})
		b := acquire(t, p, AcquireOptions{Prefer: "w1"})
		if a.Worker().ID() != "w1" || b.Worker().ID() != "w2" {
			t.Errorf("got %s and %s", a.Worker().ID(), b.Worker().ID())
		}
		a.Release()
		b.Release()
	})
}

func TestAPinnedCallerWaitsForItsWorkerWhileOthersPass(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		held := acquire(t, p, AcquireOptions{Prefer: "w1", Pin: true})
		pinned := call(t.Context(), p, AcquireOptions{Prefer: "w1", Pin: true})
		synctest.Wait()
		other := acquire(t, p, AcquireOptions{})
		if pinned.finished() || other.Worker().ID() != "w2" {
			t.Error("the pinned caller did not wait, or kept the other from w2")
		}
		other.Release()
		synctest.Wait()
		if pinned.finished() {
			t.Error("the pinned caller got another worker")
		}
		sound(t, p)
		held.Release()
		synctest.Wait()
		if pinned.lease == nil || pinned.lease.Worker().ID() != "w1" {
			t.Fatalf("the pinned caller was not served: %v", pinned.err)
		}
		pinned.lease.Release()
	})
}

func TestAPinnedCallerIsToldWhenItsWorkerDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		held := acquire(t, p, AcquireOptions{Prefer: "w1", Pin: true})
		pinned := call(t.Context(), p, AcquireOptions{Prefer: "w1", Pin: true})
		synctest.Wait()
		held.Worker().die()
		synctest.Wait()
		if e := wantCode(t, pinned.err, status.WorkerLost); e.Worker != "w1" {
			t.Errorf("which worker? %+v", e)
		}
		_, err := p.Acquire(t.Context(), AcquireOptions{Prefer: "w1", Pin: true})
		wantCode(t, err, status.WorkerLost)
		held.Release()
	})
}

func TestNotKeepsAWorkerFromACallerButNotFromOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(2, 1))
		w2 := acquire(t, p, AcquireOptions{Prefer: "w2"})
		picky := call(t.Context(), p, AcquireOptions{Not: []string{"w1"}})
		synctest.Wait()
		if picky.finished() {
			t.Fatalf("got %v, %v", picky.lease, picky.err)
		}
		w1 := acquire(t, p, AcquireOptions{})
		w1.Release()
		w2.Release()
		synctest.Wait()
		if picky.lease == nil || picky.lease.Worker().ID() != "w2" {
			t.Fatal("the caller was not served by w2")
		}
		picky.lease.Release()
	})
}

func TestReleasingTwiceFreesOneSlot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFarm()
		p := open(t, f, f.sized(1, 2))
		a, b := acquire(t, p, AcquireOptions{}), acquire(t, p, AcquireOptions{})
		a.Release()
		a.Release()
		if s := p.Stats(); s.Leased != 1 || s.Free != 1 {
			t.Errorf("%d leased, %d free", s.Leased, s.Free)
		}
		sound(t, p)
		b.Release()
	})
}
