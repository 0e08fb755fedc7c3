package lifecycle_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/lifecycle/lifecycletest"
	"github.com/dspex/dspex/internal/status"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ticker is the smallest component: a goroutine that lives from Start to Stop.
type ticker struct {
	life  lifecycle.Life
	group *lifecycle.Group
}

func (c *ticker) Start(ctx context.Context) error {
	return c.life.Start(ctx, func(ctx context.Context) error {
		c.group = lifecycle.NewGroup(context.WithoutCancel(ctx))
		c.group.Go(func(ctx context.Context) { <-ctx.Done() })
		return nil
	})
}

func (c *ticker) Stop(ctx context.Context) error {
	return c.life.Stop(ctx, func(context.Context) error {
		c.group.Cancel(errors.New("stopped"))
		c.group.Wait()
		return nil
	})
}

func TestEveryOrderOfStartAndStopIsDefined(t *testing.T) {
	lifecycletest.Stress(t, func(testing.TB) lifecycletest.Component { return &ticker{} })
}

func TestStopDuringStartCancelsTheStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var life lifecycle.Life
		result := make(chan error, 1)
		go func() {
			result <- life.Start(t.Context(), func(ctx context.Context) error {
				<-ctx.Done()
				return context.Cause(ctx)
			})
		}()
		synctest.Wait()
		if err := life.Stop(t.Context(), func(context.Context) error { return errors.New("stop must not run") }); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if err := <-result; status.CodeOf(err) != status.Closed {
			t.Errorf("Start: want closed, got %v", err)
		}
		if life.State() != lifecycle.Stopped {
			t.Errorf("state is %v", life.State())
		}
	})
}

func TestStopDuringStartStopsWhatStartedNevertheless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var life lifecycle.Life
		result := make(chan error, 1)
		go func() {
			result <- life.Start(t.Context(), func(ctx context.Context) error {
				<-ctx.Done()
				return nil
			})
		}()
		synctest.Wait()
		ran := false
		if err := life.Stop(t.Context(), func(context.Context) error { ran = true; return nil }); err != nil {
			t.Errorf("Stop: %v", err)
		}
		if !ran {
			t.Error("the stop function did not run")
		}
		if err := <-result; !errors.Is(err, status.ErrClosed) {
			t.Errorf("Start: want closed, got %v", err)
		}
	})
}

func TestAFailedStartLeavesTheComponentStopped(t *testing.T) {
	var life lifecycle.Life
	cause := errors.New("no such file")
	if err := life.Start(t.Context(), func(context.Context) error { return cause }); !errors.Is(err, cause) {
		t.Errorf("Start: %v", err)
	}
	select {
	case <-life.Stopped():
	default:
		t.Error("not stopped")
	}
	if err := life.Stop(t.Context(), func(context.Context) error { return errors.New("must not run") }); err != nil {
		t.Errorf("Stop: %v", err)
	}
}

func TestTheMostImpatientStopEndsTheDrain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var life lifecycle.Life
		if err := life.Start(t.Context(), func(context.Context) error { return nil }); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		patient := make(chan error, 1)
		go func() {
			patient <- life.Stop(t.Context(), func(ctx context.Context) error {
				<-ctx.Done()
				return errors.New("cut short")
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := life.Stop(ctx, nil)
		if err == nil || err.Error() != "cut short" {
			t.Errorf("the second Stop must share the first one's result, got %v", err)
		}
		if err := <-patient; err == nil {
			t.Error("the first Stop lost its result")
		}
		if took := time.Since(began); took != time.Second {
			t.Errorf("took %v, want 1s", took)
		}
	})
}

func TestASecondStartWaitsForTheFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var life lifecycle.Life
		go func() {
			_ = life.Start(t.Context(), func(context.Context) error {
				<-time.After(time.Minute)
				return nil
			})
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := life.Start(ctx, nil); status.CodeOf(err) != status.DeadlineExceeded {
			t.Errorf("want deadline_exceeded, got %v", err)
		}
		if err := life.Start(t.Context(), nil); err != nil {
			t.Errorf("second Start: %v", err)
		}
		_ = life.Stop(t.Context(), func(context.Context) error { return nil })
	})
}

func TestAGroupRefusesGoroutinesAfterCancelAndTellsTheCause(t *testing.T) {
	g := lifecycle.NewGroup(t.Context())
	ran := make(chan struct{})
	g.Go(func(ctx context.Context) {
		<-ctx.Done()
		close(ran)
	})
	cause := errors.New("enough")
	g.Cancel(cause)
	g.Wait()
	select {
	case <-ran:
	default:
		t.Error("Wait returned before the goroutine did")
	}
	if g.Go(func(context.Context) {}) {
		t.Error("Go accepted a goroutine after Cancel")
	}
	if !errors.Is(g.Cause(), cause) {
		t.Errorf("cause is %v", g.Cause())
	}
}
