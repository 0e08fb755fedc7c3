// Package lifecycletest hammers the start/stop contract that every running component keeps.
package lifecycletest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dspex/dspex/internal/status"
)

// Component is what runs: it starts once and stops once.
type Component interface {
	Start(ctx context.Context) error
	Stop(ctx context.Context) error
}

// bound is how long any single order of calls may take: it finds hangs, not slowness.
const bound = 30 * time.Second

// Stress checks that every order of Start and Stop is defined for the components that
// build returns: one for each check, not yet started, startable without outside help. It
// also fails when goroutines are left after a component has stopped.
func Stress(t *testing.T, build func(t testing.TB) Component) {
	t.Helper()
	ctx := context.Background()
	cases := map[string]func(t testing.TB, c Component){
		"stop without start": func(t testing.TB, c Component) {
			noError(t, "Stop", c.Stop(ctx))
			isClosed(t, c.Start(ctx))
		},
		"start and stop": func(t testing.TB, c Component) {
			noError(t, "Start", c.Start(ctx))
			noError(t, "Stop", c.Stop(ctx))
		},
		"start twice": func(t testing.TB, c Component) {
			noError(t, "first Start", c.Start(ctx))
			noError(t, "second Start", c.Start(ctx))
			noError(t, "Stop", c.Stop(ctx))
		},
		"stop twice": func(t testing.TB, c Component) {
			noError(t, "Start", c.Start(ctx))
			noError(t, "first Stop", c.Stop(ctx))
			noError(t, "second Stop", c.Stop(ctx))
		},
		"start after stop": func(t testing.TB, c Component) {
			noError(t, "Start", c.Start(ctx))
			noError(t, "Stop", c.Stop(ctx))
			isClosed(t, c.Start(ctx))
			noError(t, "Stop", c.Stop(ctx))
		},
		"stop with an ended context": func(t testing.TB, c Component) {
			noError(t, "Start", c.Start(ctx))
			ended, cancel := context.WithCancel(ctx)
			cancel()
			noError(t, "Stop", c.Stop(ended))
		},
		"start with an ended context": func(t testing.TB, c Component) {
			ended, cancel := context.WithCancel(ctx)
			cancel()
			_ = c.Start(ended) // may succeed or fail
			noError(t, "Stop", c.Stop(ctx))
		},
		"stop from many goroutines": func(t testing.TB, c Component) {
			noError(t, "Start", c.Start(ctx))
			together(8, func(int) { noError(t, "Stop", c.Stop(ctx)) })
		},
		"start from many goroutines": func(t testing.TB, c Component) {
			together(8, func(int) { noError(t, "Start", c.Start(ctx)) })
			noError(t, "Stop", c.Stop(ctx))
		},
	}
	for name, check := range cases {
		t.Run(name, func(t *testing.T) {
			within(t, func() { check(t, build(t)) })
		})
	}
	t.Run("start and stop at once, in any order", func(t *testing.T) {
		rng := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // a test needs a repeatable sequence
		for range 50 {
			starts := randomPlan(rng, 4)
			within(t, func() {
				c := build(t)
				together(len(starts), func(i int) {
					if !starts[i] {
						noError(t, "Stop", c.Stop(ctx))
						return
					}
					if err := c.Start(ctx); err != nil {
						isClosed(t, err)
					}
				})
				noError(t, "last Stop", c.Stop(ctx))
				isClosed(t, c.Start(ctx))
			})
		}
	})
}

// randomPlan returns a random plan: for each goroutine whether it starts or stops.
func randomPlan(rng *rand.Rand, n int) []bool {
	plan := make([]bool, n)
	for i := range plan {
		plan[i] = rng.IntN(2) == 0
	}
	return plan
}

// together runs f n times at once and waits for all.
func together(n int, f func(int)) {
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { f(i) })
	}
	wg.Wait()
}

// within fails the test when f takes longer than bound or leaves goroutines behind.
func within(t *testing.T, f func()) {
	t.Helper()
	before := goleak.IgnoreCurrent()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	timeout := time.NewTimer(bound)
	defer timeout.Stop()
	select {
	case <-done:
		goleak.VerifyNone(t, before)
	case <-timeout.C:
		t.Errorf("not done after %v", bound)
	}
}

func noError(t testing.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
}

func isClosed(t testing.TB, err error) {
	t.Helper()
	if status.CodeOf(err) != status.Closed {
		t.Errorf("want an error with code closed, got %v", err)
	}
}
