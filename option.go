package dspex

import (
	"maps"
	"time"

	"github.com/dspex/dspex/lm"
)

// A ProgramOption changes a program: at its construction or with [Program.With].
type ProgramOption interface {
	applyProgram(o *programOptions)
}

// A BatchOption changes how [Program.Batch] runs. Every [CallOption] is one too and
// then applies to each call of the batch.
type BatchOption interface {
	applyBatch(o *batchOptions)
}

// A CallOption changes one call.
type CallOption interface {
	BatchOption
	applyCall(o *callOptions)
}

// An Option may be given to a program or to a call. The call's wins over the program's,
// and the program's over the [Config]'s.
type Option interface {
	ProgramOption
	CallOption
}

// common holds what both a program and a call may say; a zero field says nothing.
type common struct {
	route   string
	config  lm.Config
	adapter string
	demos   []Values
}

// over returns c with every field that top sets replaced.
func (c common) over(top common) common {
	if top.route != "" {
		c.route = top.route
	}
	c.config = c.config.Merge(top.config)
	if top.adapter != "" {
		c.adapter = top.adapter
	}
	if top.demos != nil {
		c.demos = top.demos
	}
	return c
}

type programOptions struct {
	common

	signature *Signature
}

type callOptions struct {
	common

	timeout time.Duration
	rollout *int64
}

type batchOptions struct {
	concurrency int
	stopOnError bool
	call        []CallOption
}

type commonOption func(*common)

func (f commonOption) applyProgram(o *programOptions) { f(&o.common) }
func (f commonOption) applyCall(o *callOptions)       { f(&o.common) }
func (f commonOption) applyBatch(o *batchOptions)     { o.call = append(o.call, f) }

type programOption func(*programOptions)

func (f programOption) applyProgram(o *programOptions) { f(o) }

type callOption func(*callOptions)

func (f callOption) applyCall(o *callOptions)   { f(o) }
func (f callOption) applyBatch(o *batchOptions) { o.call = append(o.call, f) }

type batchOption func(*batchOptions)

func (f batchOption) applyBatch(o *batchOptions) { f(o) }

// WithLM chooses the language model by its route: a key of [Config.LMs], or
// [DefaultRoute] for [Config.LM]. An unknown route fails the call with
// [CodeInvalidArgument].
func WithLM(route string) Option {
	return commonOption(func(c *common) { c.route = route })
}

// WithLMConfig sets sampling parameters. Fields that are nil or empty in config keep
// the value they have.
func WithLMConfig(config lm.Config) Option {
	return commonOption(func(c *common) { c.config = c.config.Merge(config) })
}

// WithTemperature sets the sampling temperature, from 0 to 2. What is out of range fails
// the program with [CodeInvalidProgram], or the call with [CodeInvalidArgument]; so do
// the other sampling settings.
func WithTemperature(t float64) Option {
	return WithLMConfig(lm.Config{Temperature: &t})
}

// WithMaxTokens bounds the length of each model answer, in tokens.
func WithMaxTokens(n int) Option {
	return WithLMConfig(lm.Config{MaxTokens: &n})
}

// WithAdapter chooses the prompt format: "chat", "json" or "xml". The default is
// "json" for a model that can be constrained to a JSON schema and "chat" for others.
func WithAdapter(name string) Option {
	return commonOption(func(c *common) { c.adapter = name })
}

// WithDemos gives the demonstrations that are put into the prompt, each a map with the
// program's inputs and outputs. They replace those set before.
func WithDemos(demos ...Values) Option {
	copied := make([]Values, len(demos))
	for i, d := range demos {
		copied[i] = maps.Clone(d)
	}
	return commonOption(func(c *common) { c.demos = copied })
}

// WithSignature gives the fields of a program whose In or Out is [Values].
func WithSignature(s Signature) ProgramOption {
	return programOption(func(o *programOptions) { o.signature = &s })
}

// WithTimeout bounds one call, queue included. The earlier of it and the context's
// deadline counts; zero or less means no bound of its own.
func WithTimeout(d time.Duration) CallOption {
	return callOption(func(o *callOptions) { o.timeout = d })
}

// WithRollout asks for a sample of its own: calls that differ only in id never share an
// answer. It does what rollout_id does in DSPy; use it with a temperature above zero.
func WithRollout(id int64) CallOption {
	return callOption(func(o *callOptions) { o.rollout = &id })
}

// Concurrency bounds how many calls of a batch are in flight at once. The default, and
// the meaning of zero or less, is 32.
func Concurrency(n int) BatchOption {
	return batchOption(func(o *batchOptions) { o.concurrency = n })
}

// StopOnError ends a batch at its first failed call: calls in flight are canceled and
// reported, the rest are not started.
func StopOnError() BatchOption {
	return batchOption(func(o *batchOptions) { o.stopOnError = true })
}
