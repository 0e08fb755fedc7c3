package dspex

import (
	"bytes"
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

// Program is a DSPy program with typed inputs and outputs. It is an immutable value
// that belongs to no [Runtime]: package-level variables are safe, and any number of
// calls may use it at once on any number of Runtimes.
//
// In and Out are structs whose fields are the program's inputs and outputs, or [Values]
// together with [WithSignature]. A field is declared as
//
//	Name T `json:"name" dspy:"what it is" enum:"a,b"`
//
// where json gives the name (without it, Go's own), dspy describes the field to the model,
// and enum lists the values that it may have. Embedded structs are flattened, as
// encoding/json does. Types become Python's:
//
//	string                               str
//	int, int8, …, uint64                 int
//	float32, float64                     float
//	bool                                 bool
//	enum tag, or EnumValues() []T        Literal[…]
//	[]T, [n]T                            list[T]
//	map[string]T                         dict[str, T]
//	struct                               a class of that name
//	*T, omitempty, omitzero              T | None; left out when nil or empty
//	time.Time                            datetime
//	[]byte                               bytes: a model's text as it is, not base64
//	any, json.RawMessage                 Any
//
// Other types, such as channels and functions, make the program invalid.
type Program[In, Out any] struct {
	compiled *spec.Compiled
	options  programOptions
	module   string
	text     string
	err      error
}

// AnyProgram is a [Program] of any types. It is sealed.
type AnyProgram interface {
	// Err returns why the program cannot be built, or nil.
	Err() error
	// Hash returns the program's content hash.
	Hash() string

	wire() backend.Program
}

// Predict declares a program that asks the model once for its outputs, as dspy.Predict
// does. Empty instructions mean DSPy's own: "Given the fields …, produce the fields …".
//
// It never fails: what is wrong with the declaration is reported by [Program.Err], by
// [Runtime.Check] and by the first run, with [CodeInvalidProgram].
func Predict[In, Out any](instructions string, opts ...ProgramOption) *Program[In, Out] {
	return newProgram[In, Out](spec.Predict, instructions, opts)
}

// ChainOfThought declares a program that lets the model reason before it answers, as
// dspy.ChainOfThought does. The reasoning is in [Prediction].Reasoning.
//
// It never fails, see [Predict].
func ChainOfThought[In, Out any](instructions string, opts ...ProgramOption) *Program[In, Out] {
	return newProgram[In, Out](spec.ChainOfThought, instructions, opts)
}

func newProgram[In, Out any](module, instructions string, opts []ProgramOption) *Program[In, Out] {
	p := &Program[In, Out]{module: module, text: instructions}
	for _, o := range opts {
		o.applyProgram(&p.options)
	}
	declared := spec.Declaration{
		In:           reflect.TypeFor[In](),
		Out:          reflect.TypeFor[Out](),
		Instructions: instructions,
		Signature:    p.options.signature,
	}
	for _, demo := range p.options.demos {
		declared.Demos = append(declared.Demos, demo)
	}
	p.compiled, p.err = spec.Build(module, declared)
	if err := p.options.config.Validate(); err != nil && p.err == nil {
		p.err = status.New(status.InvalidProgram, "program", "%v", err)
	}
	return p
}

// With returns a copy of the program with opts applied; the program stays as it is.
func (p *Program[In, Out]) With(opts ...ProgramOption) *Program[In, Out] {
	all := append([]ProgramOption{programOption(func(o *programOptions) { *o = p.options })}, opts...)
	return newProgram[In, Out](p.module, p.text, all)
}

// Err returns why the program cannot be built, with code [CodeInvalidProgram], or nil.
func (p *Program[In, Out]) Err() error { return p.err }

// Hash returns the hash of what the program declares: module, signature,
// instructions and demos. It is empty if Err is not nil. Options that travel with each call, such
// as [WithLM], are not part of it.
func (p *Program[In, Out]) Hash() string {
	if p.err != nil {
		return ""
	}
	return p.compiled.Hash
}

// Signature returns the program's fields. It is the zero Signature if Err is not nil.
func (p *Program[In, Out]) Signature() Signature {
	if p.err != nil {
		return Signature{}
	}
	return p.compiled.Program.Signature
}

func (p *Program[In, Out]) wire() backend.Program {
	return backend.Program{Hash: p.compiled.Hash, Spec: p.compiled.JSON}
}

// Run executes the program once. The prediction is non-nil if and only if the error is
// nil. Run returns as soon as ctx ends, also while the call waits for a worker.
//
// Errors are *[Error] and carry what the call cost: [CodeInvalidProgram],
// [CodeInvalidArgument] for unusable inputs or options, [CodeLM] when the model failed,
// [CodeParseFailed] and [CodeInvalidOutput] when its answer could not be used,
// [CodeOverloaded], [CodeDeadlineExceeded], [CodeCanceled], [CodeWorkerLost],
// [CodeUnavailable], [CodeClosed].
func (p *Program[In, Out]) Run(ctx context.Context, r Runner, in In, opts ...CallOption) (*Prediction[Out], error) {
	if p.err != nil {
		return nil, p.err
	}
	start := time.Now()
	var rt *Runtime
	if r != nil {
		rt = r.runtime()
	}
	if rt == nil {
		return nil, status.New(status.InvalidArgument, "run", "there is no Runtime to run on: it is nil")
	}
	var options callOptions
	for _, o := range opts {
		o.applyCall(&options)
	}
	if options.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, options.timeout)
		defer cancel()
	}
	call, model, err := p.call(rt, in, &options)
	if err != nil {
		return nil, err
	}
	reply, err := r.execute(ctx, call)
	if err != nil {
		return nil, model.explain(err, time.Since(start))
	}
	pred := &Prediction[Out]{
		Reruns:  reply.Reruns,
		Worker:  reply.Worker,
		Timing:  Timing{Queue: reply.Queue, Total: time.Since(start)},
		Backend: rt.backend.Name(),
	}
	pred.Reasoning, err = p.compiled.Decode(reply.Outputs, reply.Attachments, &pred.Output)
	if err != nil {
		return nil, model.explain(err, time.Since(start))
	}
	pred.Calls, pred.Usage, _ = model.spent()
	return pred, nil
}

// call turns inputs and options into what a backend executes. Whatever is wrong with
// them is found here, before a worker is leased.
func (p *Program[In, Out]) call(rt *Runtime, in In, options *callOptions) (*backend.Call, *gateway, error) {
	c := common{adapter: rt.settings.Adapter}.over(p.options.common).over(options.common)
	model, route, err := rt.route(c.route)
	if err != nil {
		return nil, nil, err
	}
	if model == nil {
		return nil, nil, status.New(status.InvalidArgument, "run",
			"the Runtime has no language model; set Config.LM, or Config.LMs and WithLM")
	}
	call := &backend.Call{ID: rt.callID(), Program: p.wire(), Rollout: options.rollout}
	call.Inputs, call.Attachments, err = p.compiled.Encode(in)
	if err != nil {
		return nil, nil, err
	}
	capabilities := lm.CapabilitiesOf(model, route)
	call.Adapter, err = adapterName(c.adapter, capabilities)
	if err != nil {
		return nil, nil, err
	}
	if options.demos != nil {
		if call.Demos, err = p.demos(options.demos); err != nil {
			return nil, nil, err
		}
	}
	if err := c.config.Validate(); err != nil {
		return nil, nil, status.New(status.InvalidArgument, "run", "%v", err)
	}
	g := &gateway{model: model, route: route, config: c.config}
	call.LM = &backend.LM{Model: g, Route: route, Capabilities: capabilities}
	return call, g, nil
}

// demos encodes the demonstrations of a call as a JSON array.
func (p *Program[In, Out]) demos(demos []Values) (json.RawMessage, error) {
	parts := make([][]byte, len(demos))
	for i, demo := range demos {
		var err error
		if parts[i], err = p.compiled.Demo(demo); err != nil {
			return nil, err
		}
	}
	return slices.Concat([]byte{'['}, bytes.Join(parts, []byte{','}), []byte{']'}), nil
}
