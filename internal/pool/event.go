package pool

import (
	"context"
	"fmt"
	"log/slog"
	"time"
)

// EventKind says what happened to a pool.
type EventKind uint8

// The kinds of events.
const (
	// Starting means that a worker is being started.
	Starting EventKind = iota + 1
	// Ready means that a worker can be leased.
	Ready
	// StartFailed means that a worker could not be started; Err says why, Delay when its
	// seat is tried again.
	StartFailed
	// Lost means that a worker died; Delay is how long its seat waits before the next.
	Lost
	// Draining means that a worker gets no more leases; Reason says why.
	Draining
	// Stopped means that a worker ended as it was asked to.
	Stopped
	// Grown means that callers had waited and a seat was added.
	Grown
	// Shrunk means that a worker was idle and its seat was given up.
	Shrunk
	// BreakerOpened means that no worker is started for Delay.
	BreakerOpened
	// BreakerHalfOpened means that one worker is started as a trial.
	BreakerHalfOpened
	// BreakerClosed means that workers are started again.
	BreakerClosed
	// Resetting means that all workers are being replaced.
	Resetting
	// Closing means that the pool stops.
	Closing
)

// String returns the kind's name, such as "start_failed".
func (k EventKind) String() string {
	names := [...]string{
		Starting: "starting", Ready: "ready", StartFailed: "start_failed", Lost: "lost",
		Draining: "draining", Stopped: "stopped", Grown: "grown", Shrunk: "shrunk",
		BreakerOpened: "breaker_opened", BreakerHalfOpened: "breaker_half_opened",
		BreakerClosed: "breaker_closed", Resetting: "resetting", Closing: "closing",
	}
	if k >= Starting && int(k) < len(names) {
		return names[k]
	}
	return fmt.Sprintf("event_%d", uint8(k))
}

// Event is a change of a pool. Fields that do not apply to its kind are zero.
type Event struct {
	Kind       EventKind
	Time       time.Time
	Worker     string
	Seat       int
	Generation uint64
	// Size is the number of workers after the change: those ready, or for Grown and Shrunk
	// the regular seats that are wanted.
	Size   int
	Reason string
	Delay  time.Duration
	Err    error
}

// eventLimit bounds the events that were not yet taken. A pool of a hundred workers that
// all die makes a few hundred.
const eventLimit = 4096

// event records a change. The caller holds mu.
func (p *Pool[W]) event(e Event) {
	if len(p.events) >= eventLimit {
		p.counters.EventsDropped++
		return
	}
	e.Time = time.Now()
	p.events = append(p.events, e)
	select {
	case p.eventful <- struct{}{}:
	default:
	}
}

// tell hands out the events, in order.
func (p *Pool[W]) tell(ctx context.Context) {
	for ended := false; !ended; {
		select {
		case <-p.eventful:
		case <-ctx.Done():
			ended = true // after a last look
		}
		p.mu.Lock()
		events := p.events
		p.events = nil
		p.mu.Unlock()
		for _, e := range events {
			p.log(ctx, e)
			if p.cfg.OnEvent != nil {
				p.cfg.OnEvent(e)
			}
		}
	}
}

func (p *Pool[W]) log(ctx context.Context, e Event) {
	level := slog.LevelDebug
	switch e.Kind {
	case StartFailed, Lost, BreakerOpened:
		level = slog.LevelWarn
	case BreakerClosed, Resetting:
		level = slog.LevelInfo
	default:
	}
	if !p.cfg.Logger.Enabled(ctx, level) {
		return
	}
	attrs := []slog.Attr{slog.Int("seat", e.Seat), slog.Uint64("generation", e.Generation)}
	if e.Worker != "" {
		attrs = append(attrs, slog.String("worker", e.Worker))
	}
	if e.Size != 0 {
		attrs = append(attrs, slog.Int("size", e.Size))
	}
	if e.Reason != "" {
		attrs = append(attrs, slog.String("reason", e.Reason))
	}
	if e.Delay != 0 {
		attrs = append(attrs, slog.Duration("delay", e.Delay))
	}
	if e.Err != nil {
		attrs = append(attrs, slog.Any("error", e.Err))
	}
	p.cfg.Logger.LogAttrs(ctx, level, "pool: "+e.Kind.String(), attrs...)
}
