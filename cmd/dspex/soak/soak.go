package soak

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/chaos"
)

// Bounds of one call and of what follows the load.
const (
	// callLimit is far beyond what chaos can delay a call by.
	callLimit = time.Minute
	// closeLimit bounds the end.
	closeLimit = 30 * time.Second
	// canceled is how many of a thousand calls are canceled when calls are to be.
	canceled = 50
	// stuckAfter is short, so that a soak sees many workers found stuck.
	stuckAfter = 2 * time.Second
	// longest bounds the list of unexpected errors.
	longest = 10
)

type question struct {
	Question string `json:"question"`
}

type answer struct {
	Answer string `json:"answer"`
}

// soak is one run.
type soak struct {
	options Options
	runtime *dspex.Runtime
	handle  *chaos.Handle
	program *dspex.Program[question, answer]

	mu       sync.Mutex // guards all below
	report   *Report
	latency  []time.Duration
	restored []time.Duration
}

// Run soaks a Runtime of its own with the given settings, whose sizes are replaced by the
// options'. It returns early, with what was counted, when ctx ends.
//
// Errors: invalid_argument for options that cannot be used, and those of Open and Close.
func Run(ctx context.Context, o Options, settings dspex.Settings, logger *slog.Logger) (*Report, error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	settings.Min, settings.Max, settings.Slots = o.Workers, o.Workers, o.Slots
	settings.Queue = max(settings.Queue, o.Clients+1)
	if settings.StuckAfter == 0 {
		settings.StuckAfter = stuckAfter
	}
	if err := warm(ctx, settings); err != nil {
		return nil, err
	}
	before := inventory()
	model := &stub{
		latency: o.Latency, fails: o.has(LMError),
		asked: make(map[string]int), random: choices(o.Seed, 1),
	}
	s := &soak{
		options: o,
		handle:  &chaos.Handle{},
		program: dspex.Predict[question, answer]("", dspex.WithAdapter("chat")),
		report:  &Report{Seed: o.Seed, Outcomes: make(map[string]int), Chaos: make(map[string]int)},
	}
	var err error
	s.runtime, err = dspex.Open(s.handle.Context(ctx), dspex.Config{LM: model, Settings: settings, Logger: logger})
	if err != nil {
		return nil, err
	}
	s.load(ctx)
	stats := s.runtime.Stats()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeLimit)
	defer cancel()
	if err := s.runtime.Close(last); err != nil {
		return nil, err
	}
	r := s.report
	r.Started, r.WorkersLost, r.StartFailures = stats.Started, stats.Lost, stats.StartFailures
	r.Questions, r.Duplicated = model.counts()
	r.Latency, r.Restored = spreadOf(s.latency), spreadOf(s.restored)
	r.Left = before.left(last)
	r.Leaked = len(r.Left)
	return r, nil
}

// choices returns random numbers that are the same for the same seed and stream.
func choices(seed, stream uint64) *rand.Rand {
	return rand.New(rand.NewPCG(seed, stream)) //nolint:gosec // They are to be repeatable, not secret.
}

// warm opens and closes a Runtime, so that what Go and the system keep for themselves is
// there before anything is counted.
func warm(ctx context.Context, settings dspex.Settings) error {
	rt, err := dspex.Open(ctx, dspex.Config{Settings: settings})
	if err != nil {
		return err
	}
	return rt.Close(context.WithoutCancel(ctx))
}

// load makes calls and chaos until the time is up, and waits for every call's end.
func (s *soak) load(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, s.options.For)
	defer cancel()
	start := time.Now()
	var running sync.WaitGroup
	for i := range s.options.Clients {
		running.Go(func() { s.client(ctx, i) })
	}
	running.Go(func() { s.disturb(ctx) })
	running.Wait()
	s.report.Seconds = time.Since(start).Seconds()
}

// client makes one call after the other. A call that has begun is waited for beyond the end.
func (s *soak) client(ctx context.Context, id int) {
	random := choices(s.options.Seed, uint64(id)+1000)
	for n := 0; ctx.Err() == nil; n++ {
		text := fmt.Sprintf("question %d of client %d, %016x", n, id, random.Uint64())
		call, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
		gaveUp := false
		if s.options.has(Cancel) && random.IntN(1000) < canceled {
			gaveUp = true
			after := time.Duration(random.Int64N(int64(s.options.Latency + 5*time.Millisecond)))
			timer := time.AfterFunc(after, cancel)
			s.call(call, text, gaveUp)
			timer.Stop()
		} else {
			s.call(call, text, gaveUp)
		}
		cancel()
	}
}

func (s *soak) call(ctx context.Context, text string, gaveUp bool) {
	start := time.Now()
	pred, err := s.program.Run(ctx, s.runtime, question{text})
	took := time.Since(start)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.report.Requests++
	if gaveUp {
		s.report.Chaos[Cancel]++
	}
	if err == nil {
		s.report.Outcomes["ok"]++
		s.report.Reruns += pred.Reruns
		s.report.Attempts += len(pred.Calls)
		s.latency = append(s.latency, took)
		if pred.Output.Answer != text {
			s.report.Crossed++
		}
		return
	}
	var e *dspex.Error
	if !errors.As(err, &e) {
		s.report.Lost++
		s.report.Outcomes["untyped"]++
		s.unexpected(err)
		return
	}
	s.report.Outcomes[e.Code.String()]++
	s.report.Attempts += len(e.Calls)
	switch e.Code {
	case dspex.CodeDeadlineExceeded: // Nobody answered within a limit that chaos cannot explain.
		s.report.Lost++
		s.unexpected(err)
	case dspex.CodeCanceled:
		if !gaveUp {
			s.unexpected(err)
		}
	case dspex.CodeWorkerLost: // It was on two workers that died.
		if !s.options.deadly() {
			s.unexpected(err)
		}
	case dspex.CodeLM:
		if !s.options.has(LMError) {
			s.unexpected(err)
		}
		s.report.Chaos[LMError]++
	default:
		s.unexpected(err)
	}
}

// unexpected keeps an error for the report. The caller holds mu.
func (s *soak) unexpected(err error) {
	text := err.Error()
	if len(s.report.Unexpected) < longest && !slices.Contains(s.report.Unexpected, text) {
		s.report.Unexpected = append(s.report.Unexpected, text)
	}
}

// disturb does one bad thing to a worker after the other.
func (s *soak) disturb(ctx context.Context) {
	var kinds []string
	for _, kind := range s.options.Chaos {
		if kind != Cancel && kind != LMError { // The clients and the model see to those.
			kinds = append(kinds, kind)
		}
	}
	if len(kinds) == 0 {
		return
	}
	random := choices(s.options.Seed, 2)
	// What does not end a worker at once goes on beside the rest.
	var beside sync.WaitGroup
	defer beside.Wait()
	for {
		pause := time.NewTimer(100*time.Millisecond + time.Duration(random.Int64N(int64(300*time.Millisecond))))
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return
		}
		kind := kinds[random.IntN(len(kinds))]
		s.mu.Lock()
		s.report.Chaos[kind]++
		s.mu.Unlock()
		switch kind {
		case Kill:
			s.end(ctx, chaos.Op{"op": "signal", "signal": 9})
		case Exit:
			s.end(ctx, chaos.Op{"op": "exit", "code": 3})
		case Stop:
			beside.Go(func() { s.ask(ctx, chaos.Op{"op": "signal", "signal": 19}) })
		case Stuck:
			beside.Go(func() { s.ask(ctx, chaos.Op{"op": "spin_c", "seconds": 3 * stuckAfter.Seconds()}) })
		case Oversize:
			beside.Go(func() { s.oversize(ctx) })
		}
	}
}

// end makes a worker end and measures how long the capacity is gone.
func (s *soak) end(ctx context.Context, op chaos.Op) {
	before := s.runtime.Stats().Lost
	start := time.Now()
	s.ask(ctx, op)
	tick := time.NewTicker(100 * time.Microsecond)
	defer tick.Stop()
	for s.runtime.Stats().Lost == before {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
	if s.runtime.Ready(ctx) == nil {
		took := time.Since(start)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.restored = append(s.restored, took)
	}
}

// ask has a worker misbehave. That the worker is lost is what is wanted.
func (s *soak) ask(ctx context.Context, op chaos.Op) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), callLimit)
	defer cancel()
	_, err := s.handle.Do(ctx, op)
	if code := dspex.CodeOf(err); err != nil && code != dspex.CodeWorkerLost {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unexpected(err)
	}
}

// oversize makes a call that no frame can carry.
func (s *soak) oversize(ctx context.Context) {
	_, err := s.program.Run(context.WithoutCancel(ctx), s.runtime, question{strings.Repeat("x", 65<<20)})
	if dspex.CodeOf(err) != dspex.CodeInvalidArgument {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.unexpected(fmt.Errorf("an oversized call: %w", err))
	}
}
