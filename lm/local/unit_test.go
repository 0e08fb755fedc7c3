package local

import (
	"context"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

func TestManyRequestsWaitForOneStart(t *testing.T) {
	var starts atomic.Int32
	release := make(chan struct{})
	s := newSupervisor(func(context.Context) (*server, error) {
		starts.Add(1)
		<-release
		return nil, errors.New("no")
	})
	var wg sync.WaitGroup
	var waiting sync.WaitGroup
	for range 20 {
		waiting.Add(1)
		wg.Go(func() {
			a, err := s.begin()
			waiting.Done()
			if err != nil {
				t.Error(err)
				return
			}
			<-a.done
			if a.err == nil {
				t.Error("the start cannot have worked")
			}
		})
	}
	waiting.Wait()
	close(release)
	wg.Wait()
	if n := starts.Load(); n != 1 {
		t.Errorf("%d starts", n)
	}
	if _, err := s.get(t.Context()); err == nil || starts.Load() != 2 {
		t.Errorf("after a failure: %v, %d starts", err, starts.Load())
	}
	if err := s.close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestAStartOutlivesAnImpatientRequestButNotTheModel(t *testing.T) {
	stopped := make(chan struct{})
	s := newSupervisor(func(ctx context.Context) (*server, error) {
		<-ctx.Done()
		close(stopped)
		return nil, ctx.Err()
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.get(ctx); status.CodeOf(err) != status.Canceled {
		t.Errorf("got %v", err)
	}
	select {
	case <-stopped:
		t.Error("the start was stopped with the request")
	default:
	}
	if err := s.close(t.Context()); err != nil {
		t.Error(err)
	}
	<-stopped
	if _, err := s.get(t.Context()); status.CodeOf(err) != status.Closed {
		t.Errorf("got %v", err)
	}
}

func TestSettingsOutOfRangeAreRefused(t *testing.T) {
	for says, config := range map[string]Config{
		"Threads is -1":        {Threads: -1},
		"Parallel is -1":       {Parallel: -1},
		"ContextSize is -1":    {ContextSize: -1},
		"at most 8192":         {ContextSize: 9000},
		"ContextSize is 10000": {ContextSize: 10000},
	} {
		m, err := Open(t.Context(), config)
		if m != nil || status.CodeOf(err) != status.InvalidArgument || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: got %v, %v", says, m, err)
		}
	}
}

func TestARequestGetsTheModelsDefaultsAndKeepsItsOwn(t *testing.T) {
	req := &lm.Request{Config: lm.Config{Reasoning: &lm.Reasoning{Effort: "off"}}}
	got, err := prepare(req)
	if err != nil {
		t.Fatal(err)
	}
	c := got.Config
	if *c.MaxTokens != DefaultMaxTokens || *c.Temperature != 0 || *c.Seed != 0 || c.Reasoning != nil {
		t.Errorf("got %+v", c)
	}
	if req.Config.MaxTokens != nil || req.Config.Reasoning == nil {
		t.Error("the caller's request was changed")
	}
	req.Config = lm.Config{MaxTokens: new(1), Temperature: new(0.5), Seed: new(int64(9))}
	if got, err = prepare(req); err != nil || *got.Config.MaxTokens != 1 || *got.Config.Temperature != 0.5 || *got.Config.Seed != 9 {
		t.Errorf("got %+v, %v", got.Config, err)
	}
}

func TestCandidatesAndRolloutsDifferInTheirSeedOnly(t *testing.T) {
	seen := map[int64]bool{}
	for candidate := range 3 {
		for _, rollout := range []*int64{nil, new(int64(0)), new(int64(1)), new(int64(-7))} {
			n := seed(&lm.Request{Candidate: candidate, RolloutID: rollout})
			if seen[n] || n < 0 || n >= 1<<31 {
				t.Errorf("seed %d", n)
			}
			seen[n] = true
		}
	}
	if n := seed(&lm.Request{RolloutID: new(int64(1<<62 + 5))}); n < 0 || n >= 1<<31 {
		t.Errorf("seed %d", n)
	}
}

func TestWhatTheModelCannotReadIsRefused(t *testing.T) {
	for name, req := range map[string]lm.Request{
		"messages[0].parts[0]": {Messages: []lm.Message{lm.User(lm.Image(lm.Media{Data: "AA=="}))}},
		"config.reasoning":     {Config: lm.Config{Reasoning: &lm.Reasoning{Effort: "low"}}},
	} {
		if _, err := prepare(&req); lm.KindOf(err) != lm.KindUnsupportedFeature || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: got %v", name, err)
		}
	}
}
