package dspex

import (
	"context"
	"iter"
	"sync"
	"time"

	"github.com/dspex/dspex/lm"
)

// gateway serves the language model requests of one call and remembers what they cost.
// mu guards calls and last.
type gateway struct {
	model lm.Model
	route string
	// config holds what program and call ask for. What DSPy sets in a request wins, as
	// the settings of a predictor win over those of its LM.
	config lm.Config

	mu    sync.Mutex
	calls []lm.Call
	last  string
}

var _ lm.Model = (*gateway)(nil)

// Complete asks the model and records the attempt.
func (g *gateway) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	start := time.Now()
	req = g.configure(req)
	res, err := g.model.Complete(ctx, req)
	g.record(req, res, time.Since(start), err)
	return res, err
}

// Stream asks the model for events and records the attempt when the sequence ends,
// also when the consumer breaks it off.
func (g *gateway) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		start := time.Now()
		req := g.configure(req)
		var (
			whole   lm.Assembler
			failure error
		)
		defer func() {
			res, err := whole.Response()
			if failure != nil {
				err = failure
			}
			g.record(req, res, time.Since(start), err)
		}()
		for ev, err := range g.model.Stream(ctx, req) {
			if err != nil {
				failure = err
			} else {
				failure = whole.Push(ev)
			}
			if !yield(ev, failure) || failure != nil {
				return
			}
		}
	}
}

func (g *gateway) configure(req *lm.Request) *lm.Request {
	configured := *req
	configured.Config = g.config.Merge(req.Config)
	return &configured
}

func (g *gateway) record(req *lm.Request, res *lm.Response, took time.Duration, err error) {
	call := lm.Call{Model: g.route, Predictor: req.Predictor, Duration: took}
	if err != nil {
		call.Error = err.Error()
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if res != nil {
		call.Usage, call.FinishReason = res.Usage, res.FinishReason
		g.last = res.Text()
	}
	g.calls = append(g.calls, call)
}

// spent returns every attempt so far, their sum, and the model's last answer.
func (g *gateway) spent() (calls []lm.Call, usage lm.Usage, last string) {
	if g == nil {
		return nil, lm.Usage{}, ""
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, c := range g.calls {
		usage = usage.Add(c.Usage)
	}
	return append([]lm.Call(nil), g.calls...), usage, g.last
}
