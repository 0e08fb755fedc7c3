package dspex_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/scripted"
)

// host is a process with a Runtime that is about to be killed. It brings its workers
// into the state that hostVariable names, says so on standard output, and waits.
func host() int {
	if os.Getenv(hostVariable) == pausedState {
		return pausedHost()
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute) // In case nobody kills it.
	defer cancel()
	asked := make(chan struct{}, 2)
	model := scripted.Func(func(ctx context.Context, _ *lm.Request) (string, error) {
		asked <- struct{}{}
		<-ctx.Done()
		return "", ctx.Err()
	})
	rt, err := dspex.OpenDebug(ctx, dspex.Config{LM: model, Settings: dspex.Settings{Min: 2, Max: 2}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	misbehave := func(op map[string]any) error {
		_, err := dspex.Misbehave(ctx, rt, op)
		return err
	}
	switch os.Getenv(hostVariable) {
	case "idle":
	case "calling":
		for range 2 {
			go func() { _, _ = dspex.Predict[question, answer]("").Run(ctx, rt, question{"Who?"}) }()
			<-asked
		}
	case "holding the GIL":
		go func() { _ = misbehave(map[string]any{"op": "spin_c", "seconds": 60}) }()
	case "subprocess":
		err = misbehave(map[string]any{"op": "subprocess", "argv": []string{"sleep", "60"}})
	case "subprocess in a session of its own":
		err = misbehave(map[string]any{"op": "subprocess", "argv": []string{"sleep", "60"}, "new_session": true})
	default:
		err = fmt.Errorf("unknown state %q", os.Getenv(hostVariable))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "ready")
	<-ctx.Done()
	return 1
}

// pausedState is the state of a host that is stopped while it has calls.
const pausedState = "paused"

// pausedHost runs calls that end after standard input has, which is after the pause, and
// tells how many workers and calls were lost by it.
func pausedHost() int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	const bound, calls = time.Second, 16
	asked, release := make(chan struct{}, calls), make(chan struct{})
	model := scripted.Func(func(ctx context.Context, _ *lm.Request) (string, error) {
		asked <- struct{}{}
		select {
		case <-release:
			return completion("x"), nil
		case <-ctx.Done():
			return "", ctx.Err()
		}
	})
	rt, err := dspex.Open(ctx, dspex.Config{LM: model, Settings: dspex.Settings{Min: 3, Max: 3, Slots: 8, StuckAfter: bound}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	results := make(chan error, calls)
	for range calls {
		go func() {
			_, err := dspex.Predict[question, answer]("").Run(ctx, rt, question{"Who?"})
			results <- err
		}()
		<-asked
	}
	fmt.Fprintln(os.Stdout, "ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	<-time.After(2 * bound) // Whoever is to be blamed falsely is blamed by now.
	lost, failed := rt.Stats().Lost, 0
	close(release)
	for range calls {
		if err := <-results; err != nil {
			fmt.Fprintln(os.Stderr, err)
			failed++
		}
	}
	fmt.Fprintf(os.Stdout, "%d lost, %d failed\n", lost, failed)
	if err := rt.Close(ctx); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}
