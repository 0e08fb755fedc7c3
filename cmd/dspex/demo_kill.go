package main

import (
	"context"
	"os"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/status"
)

// kill ends the busiest worker from outside, as an operator or the kernel would, and waits
// until the pool has noticed. It returns nil where workers are no processes.
func (d *demoRun) kill(ctx context.Context) (*killJSON, error) {
	before := d.rt.Stats()
	var victim *dspex.WorkerStats
	for i := range before.Workers {
		w := &before.Workers[i]
		if w.PID != 0 && takesCalls(w) && (victim == nil || w.Calls > victim.Calls) {
			victim = w
		}
	}
	if victim == nil {
		return nil, nil
	}
	// The worker is a child of this process that has not been waited for: the id is its own.
	if err := killProcess(victim.PID); err != nil {
		return nil, status.Wrap(status.Internal, "demo", err, "worker %s (process %d) could not be killed: %v", victim.ID, victim.PID, err)
	}
	noticed, err := d.until(ctx, func(s dspex.Stats) bool { return s.Lost > before.Lost })
	if err != nil {
		return nil, err
	}
	d.page.linef("%-8s worker %s, process %d, in the middle of %d calls; noticed after %s",
		"kill -9", victim.ID, victim.PID, victim.Calls, took(noticed))
	return &killJSON{Worker: victim.Worker, Calls: victim.Calls, NoticedMS: ms(noticed)}, nil
}

func killProcess(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return err
	}
	defer p.Release() //nolint:errcheck // Nothing is left to be done about it.
	return p.Kill()
}

// until waits until a snapshot satisfies done and returns how long that took.
func (d *demoRun) until(ctx context.Context, done func(dspex.Stats) bool) (time.Duration, error) {
	const (
		interval = time.Millisecond // fine enough for the figure that is shown
		patience = 30 * time.Second // more than a start may take when it must go right
	)
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for !done(d.rt.Stats()) {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return 0, status.FromContext(ctx, "demo", "the pool did not recover from the killed worker")
		}
	}
	return time.Since(start), nil
}

// usable counts the workers that take calls.
func usable(s dspex.Stats) int {
	n := 0
	for i := range s.Workers {
		if takesCalls(&s.Workers[i]) {
			n++
		}
	}
	return n
}

func takesCalls(w *dspex.WorkerStats) bool { return w.State == "ready" || w.State == "busy" }
