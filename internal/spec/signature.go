package spec

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/status"
)

// What is being done when an error occurs.
const (
	opProgram   = "program"
	opSignature = "signature"
	opRun       = "run"
)

// defaultName is DSPy's own name for a signature that was not written as a class.
const defaultName = "StringSignature"

// Kind says whether a field is given or produced.
type Kind uint8

const (
	// Input is a field that the caller gives.
	Input Kind = iota + 1
	// Output is a field that the model produces.
	Output
)

// String returns "input" or "output".
func (k Kind) String() string {
	switch k {
	case Input:
		return "input"
	case Output:
		return "output"
	default:
		return fmt.Sprintf("kind_%d", uint8(k))
	}
}

// MarshalText returns "input" or "output". It fails for any other value.
func (k Kind) MarshalText() ([]byte, error) {
	if k != Input && k != Output {
		return nil, fmt.Errorf("spec: %d is not a kind of field", uint8(k))
	}
	return []byte(k.String()), nil
}

// UnmarshalText reads "input" or "output".
func (k *Kind) UnmarshalText(text []byte) error {
	switch string(text) {
	case "input":
		*k = Input
	case "output":
		*k = Output
	default:
		return fmt.Errorf("spec: %q is not a kind of field; use \"input\" or \"output\"", text)
	}
	return nil
}

// Field is one input or output of a program.
type Field struct {
	// Name is what prompts, inputs and outputs call it.
	Name string `json:"name"`
	// Kind says whether it is given or produced.
	Kind Kind `json:"kind"`
	// Schema is its type.
	Schema Schema `json:"schema"`
	// Desc describes it to the model. Empty means DSPy's own: "${name}".
	Desc string `json:"desc,omitempty"`
	// Default is the JSON value of an input that is not given. Nil means none: the input
	// is required unless its type says that it may be None.
	Default json.RawMessage `json:"default,omitempty"`
}

// Optional reports whether the field may be left out: it has a default, or its type says
// that it may be None. Any says nothing.
func (f *Field) Optional() bool { return f.Default != nil || f.noneable() }

func (f *Field) noneable() bool { return f.Schema.nullable(&f.Schema) && !f.Schema.anything() }

func (f *Field) check() error {
	if !utf8.ValidString(f.Desc) {
		return errors.New("the description is not valid UTF-8")
	}
	if err := f.Schema.check(); err != nil {
		return err
	}
	if f.Default == nil {
		return nil
	}
	if f.Kind == Output {
		return errors.New("an output has no default")
	}
	value, err := readTree(f.Default)
	if err != nil {
		return fmt.Errorf("the default: %w", err)
	}
	e := encoder{inline: true}
	if fault := e.bySchema(&f.Schema, &f.Schema, reflect.ValueOf(value)); fault != nil {
		return fmt.Errorf("the default does not fit: %w", fault)
	}
	return nil
}

// Signature says what a program is given and what it produces: a name, instructions for
// the model, and fields. The order of the fields is the order in prompts.
//
// A Signature is data: it can be written and read as JSON, made by [ParseSignature], or
// derived from Go types. It is not to be changed once it is in use.
type Signature struct {
	// Name is the signature's name in Python: letters, digits and underscores. Empty
	// means DSPy's own, "StringSignature".
	Name string `json:"name,omitempty"`
	// Instructions tell the model what to do. Empty means DSPy's own: "Given the
	// fields …, produce the fields …".
	Instructions string `json:"instructions,omitempty"`
	// Fields are the inputs and outputs.
	Fields []Field `json:"fields"`
}

// Inputs returns the fields that the caller gives.
func (s Signature) Inputs() []Field { return s.of(Input) }

// Outputs returns the fields that the model produces.
func (s Signature) Outputs() []Field { return s.of(Output) }

func (s Signature) of(kind Kind) []Field {
	var fields []Field
	for _, f := range s.Fields {
		if f.Kind == kind {
			fields = append(fields, f)
		}
	}
	return fields
}

// Field returns the field of that name, and whether there is one.
func (s Signature) Field(name string) (Field, bool) {
	for _, f := range s.Fields {
		if f.Name == name {
			return f, true
		}
	}
	return Field{}, false
}

// Validate returns why DSPy could not take the signature, with code invalid_argument, or
// nil: a name that DSPy or Python uses for something else, a field that is there twice, a
// type that DSPy's types cannot express, no output. A module may have reserved further
// names; those are refused when a program is made of it.
func (s Signature) Validate() error {
	if err := s.check(Module{}); err != nil {
		return status.New(status.InvalidArgument, opSignature, "%v", err)
	}
	return nil
}

func (s Signature) check(m Module) error {
	if s.Name != "" && (!isIdentifier(s.Name) || keyword(s.Name)) {
		return fmt.Errorf("the signature's name %s is not made of letters, digits and underscores", quoted(s.Name))
	}
	if !utf8.ValidString(s.Instructions) {
		return errors.New("the instructions are not valid UTF-8")
	}
	return checkFields(s.Fields, m)
}

// String returns the signature in DSPy's notation, as [ParseSignature] reads it:
// "context: list[str], question: str -> answer: str". Classes have no notation and are
// shown by their name.
func (s Signature) String() string {
	var b strings.Builder
	for i, f := range s.Inputs() {
		if i > 0 {
			b.WriteString(", ")
		}
		writeField(&b, &f)
	}
	if b.Len() > 0 {
		b.WriteByte(' ')
	}
	b.WriteString("->")
	for i, f := range s.Outputs() {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte(' ')
		writeField(&b, &f)
	}
	return b.String()
}

func writeField(b *strings.Builder, f *Field) {
	b.WriteString(f.Name)
	b.WriteString(": ")
	b.WriteString(f.Type())
}
