package soak

import (
	"context"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/lm"
)

// stub is the model of a soak: it answers each question with the question itself and
// counts how often it was asked. mu guards asked and random.
type stub struct {
	latency time.Duration
	fails   bool

	mu     sync.Mutex
	asked  map[string]int
	random *rand.Rand
}

// failures is how many of a thousand requests fail when the model is to fail.
const failures = 20

var _ lm.Model = (*stub)(nil)

// Complete answers after the latency.
func (s *stub) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	question := asked(req)
	s.mu.Lock()
	s.asked[question]++
	fail := s.fails && s.random.IntN(1000) < failures
	s.mu.Unlock()
	if s.latency > 0 {
		timer := time.NewTimer(s.latency)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if fail {
		return nil, &lm.Error{Kind: lm.KindServer, Status: 503, Provider: "soak", Message: "the model fails as it was told to"}
	}
	text := "[[ ## answer ## ]]\n" + question + "\n\n[[ ## completed ## ]]"
	return &lm.Response{
		Model:        "soak",
		Message:      lm.Message{Role: lm.RoleAssistant, Parts: []lm.Part{{Type: lm.PartText, Text: text}}},
		FinishReason: lm.FinishStop,
	}, nil
}

// Stream answers like Complete.
func (s *stub) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return lm.Replay(func() (*lm.Response, error) { return s.Complete(ctx, req) })
}

// counts returns how many different questions were asked, and how many more than once.
func (s *stub) counts() (questions, repeated int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.asked {
		if n > 1 {
			repeated++
		}
	}
	return len(s.asked), repeated
}

// asked returns the question in a request that DSPy's chat adapter has written.
func asked(req *lm.Request) string {
	last := req.Messages[len(req.Messages)-1]
	var text strings.Builder
	for _, part := range last.Parts {
		text.WriteString(part.Text)
	}
	_, question, _ := strings.Cut(text.String(), "[[ ## question ## ]]\n")
	question, _, _ = strings.Cut(question, "\n\nRespond with")
	return question
}
