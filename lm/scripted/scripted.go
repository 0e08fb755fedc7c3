// Package scripted is a model whose answers are written down beforehand: by a Go
// function, as a list, as rules, or in a file. It is deterministic, needs neither key
// nor network, and remembers what it was asked, which makes it the model of tests and
// examples.
package scripted

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dspex/dspex/lm"
)

const provider = "scripted"

// defaultKeep bounds the memory of a model that runs for long. No test that looks at
// single requests makes as many.
const defaultKeep = 1000

// Answerer gives the answer to a request. It may be called concurrently.
type Answerer func(ctx context.Context, req *lm.Request) (*lm.Response, error)

// Config describes a scripted model.
type Config struct {
	// Answer gives the answers. Required. What it leaves out of a response (model,
	// role, finish reason) is filled in; an error of its own that is no *lm.Error is
	// wrapped in one of lm.KindUnexpected.
	Answer Answerer
	// Latency is how long every answer takes, or with Stream its first event. Zero
	// means none.
	Latency time.Duration
	// Usage is reported with every answer that reports none itself.
	Usage lm.Usage
	// Capabilities is what the model claims it can do. Streaming is always true.
	Capabilities lm.Capabilities
	// Keep is how many requests are remembered, the latest ones. Zero means 1000,
	// a negative number none.
	Keep int
}

// Model is a scripted [lm.Model]. It is safe for concurrent use.
type Model struct {
	config Config

	mu       sync.Mutex // guards what follows
	calls    int
	requests []*lm.Request // the latest config.Keep
}

// New returns the model that config describes.
func New(config Config) *Model {
	if config.Keep == 0 {
		config.Keep = defaultKeep
	}
	config.Capabilities.Streaming = true
	return &Model{config: config}
}

// Func returns a model that answers with the text that f returns.
func Func(f func(ctx context.Context, req *lm.Request) (string, error)) *Model {
	return New(Config{Answer: func(ctx context.Context, req *lm.Request) (*lm.Response, error) {
		text, err := f(ctx, req)
		if err != nil {
			return nil, err
		}
		return Text(text), nil
	}})
}

// List returns a model that gives the answers in their order, one to each request;
// requests are ordered by their arrival. When the answers are used up, it fails with
// an error that says so.
func List(answers ...string) *Model {
	steps := make([]Step, len(answers))
	for i, text := range answers {
		steps[i].Text = text
	}
	return New(Config{Answer: Steps(steps...)})
}

// Match returns a model that answers by rules; see [Rules].
func Match(rules ...Rule) *Model { return New(Config{Answer: Rules(rules...)}) }

// Text returns a response that holds text.
func Text(s string) *lm.Response {
	return &lm.Response{Message: lm.Assistant(lm.Text(s)), FinishReason: lm.FinishStop}
}

// Step is one answer: an error, a whole response, or else text.
type Step struct {
	Text     string
	Response *lm.Response
	Err      error
}

func (s Step) answer() (*lm.Response, error) {
	switch {
	case s.Err != nil:
		return nil, s.Err
	case s.Response != nil:
		return s.Response, nil
	default:
		return Text(s.Text), nil
	}
}

// Steps returns an Answerer that takes the steps in order, one for each request. When
// they are used up it fails with an *lm.Error of lm.KindProvider and the code
// "exhausted", which says how many requests there were.
func Steps(steps ...Step) Answerer {
	var (
		mu   sync.Mutex
		next int
	)
	return func(context.Context, *lm.Request) (*lm.Response, error) {
		mu.Lock()
		i := next
		next++
		mu.Unlock()
		if i >= len(steps) {
			return nil, &lm.Error{
				Kind: lm.KindProvider, Provider: provider, Code: "exhausted",
				Message: fmt.Sprintf("the script has %d answers and this is request %d", len(steps), i+1),
			}
		}
		return steps[i].answer()
	}
}

// Rule gives its step to every request whose last message contains Match. An empty
// Match fits every request.
type Rule struct {
	Match string
	Step  Step
}

// Rules returns an Answerer that answers by the first rule that fits. When none does,
// it fails with an *lm.Error of lm.KindProvider and the code "no_match".
func Rules(rules ...Rule) Answerer {
	return func(_ context.Context, req *lm.Request) (*lm.Response, error) {
		if step, ok := find(rules, req); ok {
			return step.answer()
		}
		return nil, &lm.Error{
			Kind: lm.KindProvider, Provider: provider, Code: "no_match",
			Message: fmt.Sprintf("none of the script's %d rules fits the request", len(rules)),
		}
	}
}

func find(rules []Rule, req *lm.Request) (Step, bool) {
	last := lastText(req)
	for _, r := range rules {
		if strings.Contains(last, r.Match) {
			return r.Step, true
		}
	}
	return Step{}, false
}

// lastText returns the text of the last message. The ones before it hold examples, in
// which a rule must not find what it looks for.
func lastText(req *lm.Request) string {
	if len(req.Messages) == 0 {
		return ""
	}
	parts := req.Messages[len(req.Messages)-1].Parts
	if len(parts) == 1 {
		return parts[0].Text
	}
	var b strings.Builder
	for i := range parts {
		b.WriteString(parts[i].Text)
	}
	return b.String()
}

// Calls returns how many requests there were.
func (m *Model) Calls() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.calls
}

// Requests returns the latest requests, in the order of their arrival; see Config.Keep.
func (m *Model) Requests() []*lm.Request {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.requests)
}

// Capabilities returns those of the Config, for every model.
func (m *Model) Capabilities(string) lm.Capabilities { return m.config.Capabilities }

// Complete answers the request.
func (m *Model) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	m.record(req)
	if err := sleep(ctx, m.config.Latency); err != nil {
		return nil, err
	}
	resp, err := m.config.Answer(ctx, req)
	switch {
	case err != nil:
		return nil, m.failure(ctx, err)
	case resp == nil:
		return nil, lm.Errorf(lm.KindUnexpected, provider, "the script gave neither an answer nor an error")
	}
	return m.fill(req, resp), nil
}

// Stream answers the request word by word.
func (m *Model) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		whole := lm.Replay(func() (*lm.Response, error) { return m.Complete(ctx, req) })
		for e, err := range whole {
			if err != nil || e.Delta == nil || e.Delta.Type != lm.DeltaText {
				if !yield(e, err) {
					return
				}
				continue
			}
			if !words(ctx, *e.Delta, yield) {
				return
			}
		}
	}
}

// words yields a text delta as one event for each word. It reports whether the stream
// goes on.
func words(ctx context.Context, d lm.Delta, yield func(lm.Event, error) bool) bool {
	rest := d.Text
	for first := true; first || rest != ""; first = false {
		if ctx.Err() != nil {
			yield(lm.Event{}, ended(ctx))
			return false
		}
		end := len(rest)
		if i := strings.IndexAny(rest, " \n"); i >= 0 {
			end = i + 1
		}
		d.Text, rest = rest[:end], rest[end:]
		if !yield(lm.Event{Type: lm.EventDelta, Delta: new(d)}, nil) {
			return false
		}
		d.Logprobs, d.LogprobsIncomplete = nil, false
	}
	return true
}

func (m *Model) record(req *lm.Request) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls++
	if m.config.Keep < 0 {
		return
	}
	if len(m.requests) >= m.config.Keep {
		m.requests = slices.Delete(m.requests, 0, len(m.requests)-m.config.Keep+1)
	}
	m.requests = append(m.requests, req)
}

func (m *Model) fill(req *lm.Request, resp *lm.Response) *lm.Response {
	filled := *resp
	if filled.Model == "" {
		filled.Model = req.Model
	}
	if filled.Message.Role == "" {
		filled.Message.Role = lm.RoleAssistant
	}
	if len(filled.Message.Parts) == 0 {
		filled.Message.Parts = []lm.Part{lm.Text("")}
	}
	if filled.FinishReason == "" {
		filled.FinishReason = lm.FinishStop
	}
	if filled.Usage == (lm.Usage{}) {
		filled.Usage = m.config.Usage
	}
	filled.Usage = filled.Usage.WithTotal()
	return &filled
}

func (m *Model) failure(ctx context.Context, err error) error {
	if _, ok := errors.AsType[*lm.Error](err); ok {
		return err
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return &lm.Error{Kind: lm.KindUnexpected, Provider: provider, Err: err}
}

func sleep(ctx context.Context, d time.Duration) error {
	if d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return ended(ctx)
	}
	return nil
}

func ended(ctx context.Context) error { return fmt.Errorf("lm: %s: %w", provider, ctx.Err()) }
