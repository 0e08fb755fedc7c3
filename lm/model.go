package lm

import (
	"context"
	"iter"
)

// Model answers requests. A provider is a Model, and so is everything that wraps
// one. Implementations must be safe for concurrent use.
//
// A Model makes one attempt: it neither retries nor caches, and it answers with
// one candidate. When ctx ends first, the error matches ctx's own error with
// errors.Is; every other failure is an [*Error].
type Model interface {
	// Complete returns the whole answer. The response is non-nil if and only if
	// the error is nil.
	Complete(ctx context.Context, req *Request) (*Response, error)

	// Stream returns the answer as events: one start, any number of deltas, one
	// end. A failure is yielded once, with a zero Event, and ends the sequence.
	// Nothing is sent to the provider before the sequence is ranged over; leaving
	// the range early cancels the call. Ranging again asks again.
	Stream(ctx context.Context, req *Request) iter.Seq2[Event, error]
}

// Capabilities says what a model can do; DSPy's adapters choose the form of the
// prompt by it. The zero value promises nothing, which is always safe.
type Capabilities struct {
	// ResponseSchema is true when the answer can be constrained to a JSON Schema.
	ResponseSchema bool `json:"response_schema"`
	// JSONObject is true when the answer can be constrained to be a JSON object.
	JSONObject bool `json:"json_object"`
	// FunctionCalling is true when the model can call tools natively.
	FunctionCalling bool `json:"function_calling"`
	// Reasoning is true when the model thinks before it answers and says so.
	Reasoning bool `json:"reasoning"`
	// Streaming is true when the provider sends the answer piece by piece. A
	// Model without it still has Stream, which then yields the answer at once.
	Streaming bool `json:"streaming"`
	// Params lists the request settings that DSPy may use, by DSPy's names, beyond
	// those that follow from the fields above.
	Params []string `json:"params,omitempty"`
}

// Capable is implemented by a [Model] that knows what its models can do.
type Capable interface {
	// Capabilities describes the named model. An empty name means the Model's
	// default. It does no input or output and is safe for concurrent use.
	Capabilities(model string) Capabilities
}

// CapabilitiesOf returns what m says about the named model, or the zero
// Capabilities when m does not say.
func CapabilitiesOf(m Model, model string) Capabilities {
	if c, ok := m.(Capable); ok {
		return c.Capabilities(model)
	}
	return Capabilities{}
}
