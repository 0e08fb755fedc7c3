package dspex

import "github.com/dspex/dspex/internal/spec"

// Signature says what a program is given and what it produces: its name, instructions
// and fields, as data. See [ParseSignature] and [WithSignature]. Its fields are
//
//	Name         string   // its name in Python; may be empty
//	Instructions string   // what the model is to do; empty means DSPy's own text
//	Fields       []Field  // inputs and outputs, in the order of the prompt
//
// and its methods Inputs, Outputs, Field, Validate and String.
type Signature = spec.Signature

// Field is one input or output of a [Signature]. Its fields are
//
//	Name    string           // what prompts, inputs and outputs call it
//	Kind    Kind             // Input or Output
//	Schema  Schema           // its type, as JSON Schema
//	Desc    string           // describes it to the model
//	Default json.RawMessage  // of an input that may be left out
type Field = spec.Field

// The kinds of a [Field].
const (
	// Input is a field that the caller gives.
	Input = spec.Input
	// Output is a field that the model produces.
	Output = spec.Output
)

// Values holds inputs or outputs by name, for programs whose fields are known only when
// they run; see [WithSignature]. Outputs are strings, bools, int64, float64, time.Time,
// []byte, []any, map[string]any and nil, by the type of their field.
type Values map[string]any

// ParseSignature reads a signature in DSPy's notation:
//
//	context: list[str], question -> answer: str, score: float
//
// Types are str (the default), int, float, bool, bytes, datetime, date, Any, list[T],
// dict[str, T], Literal["a", "b"], Optional[T] and unions with "|". Nothing in it is ever
// evaluated. The error has code [CodeInvalidArgument] and says where the text is wrong.
func ParseSignature(text string) (Signature, error) { return spec.ParseSignature(text) }
