package spec_test

import (
	"bytes"
	"encoding/json"
	"math/big"
	"net/netip"
	"reflect"
	"testing"
	"time"
	"unsafe"

	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/status"
)

type Level string

func (Level) EnumValues() []Level { return []Level{"low", "high"} }

type Priority int

func (Priority) EnumValues() []Priority { return []Priority{1, 2, 3} }

// Color is an enum that has a text form of its own.
type Color int

func (Color) EnumValues() []Color { return []Color{0, 1} }

func (c Color) MarshalText() ([]byte, error) { return []byte([]string{"red", "blue"}[c]), nil }

func (c *Color) UnmarshalText(text []byte) error {
	*c = 0
	if string(text) == "blue" {
		*c = 1
	}
	return nil
}

// Vector writes its own JSON and says which.
type Vector struct{ x, y float64 }

func (Vector) DSPyType() string { return "list[float]" }

func (v Vector) MarshalJSON() ([]byte, error) { return json.Marshal([]float64{v.x, v.y}) }

func (v *Vector) UnmarshalJSON(data []byte) error {
	var xy []float64
	if err := json.Unmarshal(data, &xy); err != nil {
		return err
	}
	v.x, v.y = xy[0], xy[1]
	return nil
}

type Address struct {
	Street string  `json:"street" dspy:"without the number"`
	Number *int    `json:"number"`
	Note   string  `json:"note,omitempty"`
	Lat    float32 `json:"lat"`
}

type Tree struct {
	Value    int    `json:"value"`
	Children []Tree `json:"children"`
	Parent   *Tree  `json:"parent" dspy:"nil at the root"`
}

type Page[T any] struct {
	Items []T `json:"items"`
}

type Base struct {
	ID     string `json:"id"`
	hidden int    //nolint:unused // shows that it is left out
}

type Everything struct {
	Base

	Text     string `json:"text" dspy:"what it says"`
	Untagged bool
	Ints     []int8            `json:"ints"`
	Big      uint64            `json:"big"`
	Float    float64           `json:"float"`
	Level    Level             `json:"level"`
	Levels   []Level           `json:"levels"`
	Priority *Priority         `json:"priority"`
	Color    Color             `json:"color"`
	Tagged   []string          `json:"tagged" enum:"a, b"`
	Numbered int               `json:"numbered" enum:"1,2"`
	Home     Address           `json:"home" dspy:"where they live"`
	Away     []*Address        `json:"away"`
	Dict     map[string][]bool `json:"dict"`
	Fixed    [2]int            `json:"fixed"`
	When     time.Time         `json:"when"`
	Maybe    *time.Time        `json:"maybe"`
	Data     []byte            `json:"data"`
	Blobs    map[string][]byte `json:"blobs"`
	Raw      json.RawMessage   `json:"raw"`
	Any      any               `json:"any"`
	Opt      string            `json:"opt,omitempty"`
	OptTime  time.Time         `json:"opt_time,omitzero"`
	Tree     Tree              `json:"tree"`
	Page     Page[Address]     `json:"page"`
	Inline   struct {
		A string `json:"a"`
	} `json:"inline"`
	Addr    netip.Addr  `json:"addr"`
	Huge    big.Int     `json:"huge"`
	HugePtr *big.Int    `json:"huge_ptr"`
	Number  json.Number `json:"number"`
	Vector  Vector      `json:"vector"`
	Skipped chan int    `json:"-"`
}

func TestFieldsOfGoTypes(t *testing.T) {
	fields, err := spec.FieldsOf(reflect.TypeFor[Everything](), spec.Input)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := json.Indent(&b, text, "", "  "); err != nil {
		t.Fatal(err)
	}
	golden(t, "everything.json", append(b.Bytes(), '\n'))

	signature := spec.Signature{Fields: append(fields, spec.Field{Name: "answer", Kind: spec.Output})}
	if err := signature.Validate(); err != nil {
		t.Errorf("what FieldsOf makes is not valid: %v", err)
	}
	golden(t, "everything.txt", []byte(signature.String()+"\n"))

	var read []spec.Field
	if err := json.Unmarshal(text, &read); err != nil {
		t.Fatalf("its own JSON is not read: %v", err)
	}
	again, err := json.Marshal(read)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(text, again) {
		t.Errorf("its own JSON changed on the way:\n%s\n%s", text, again)
	}
}

type onlyUnexported struct{ a int } //nolint:unused // it is the case

type ownJSON struct{ A int }

func (ownJSON) MarshalJSON() ([]byte, error) { return nil, nil }

type halfText struct{ A int }

func (halfText) MarshalText() ([]byte, error) { return nil, nil }

type badEnum string

func (badEnum) EnumValues() []string { return nil }

type emptyEnum string

func (emptyEnum) EnumValues() []emptyEnum { return nil }

type panicking string

func (panicking) EnumValues() []panicking { panic("not today") }

type badTyper struct{ A int }

func (badTyper) DSPyType() string { return "lisst" }

type bytesTyper struct{ A int }

func (bytesTyper) DSPyType() string { return "list[bytes]" }

type inner struct{ A string }

type (
	Left  struct{ Name string }
	Right struct{ Name string }
)

func TestTypesThatDSPyCannotTakeAreRefusedWithTheGoPath(t *testing.T) {
	type deep struct {
		Items []struct {
			Meta map[string]struct{ Bad chan int }
		}
	}
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"a channel", struct{ A chan int }{}, `struct.A: chan int is no data; remove the field or hide it with`},
		{"a function", struct{ A func() }{}, `struct.A: func() is no data`},
		{"a pointer to anything", struct{ A unsafe.Pointer }{}, `struct.A: unsafe.Pointer is no data`},
		{"a complex number", struct{ A complex128 }{}, `struct.A: complex128 has no JSON form; use two floats`},
		{"deep inside", deep{}, `deep.Items.Meta.Bad: chan int is no data`},
		{"a map with other keys", struct{ A map[int]string }{}, `struct.A: the keys of map[int]string are not plain strings; use map[string]string`},
		{"an interface with methods", struct{ A error }{}, `struct.A: the interface error could hold anything; use a struct, any or json.RawMessage`},
		{"a pointer to a pointer", struct{ A **int }{}, `struct.A: **int points to a pointer; use one pointer`},
		{"a struct without exported fields", struct{ A onlyUnexported }{}, `struct.A: spec_test.onlyUnexported has no exported fields`},
		{"a struct without fields", struct{ A struct{} }{}, `struct.A: struct {} has no exported fields`},
		{"inputs without exported fields", onlyUnexported{}, `onlyUnexported: spec_test.onlyUnexported has no exported fields`},
		{"JSON of its own", struct{ A ownJSON }{}, `struct.A: spec_test.ownJSON writes or reads its own JSON, so its type is not known; give it a method DSPyType() string`},
		{"inputs with JSON of their own", ownJSON{}, `ownJSON is not a plain struct`},
		{"half a text form", struct{ A halfText }{}, `struct.A: spec_test.halfText has only one of MarshalText and UnmarshalText`},
		{"an enum of another type", struct{ A badEnum }{}, `struct.A: spec_test.badEnum.EnumValues must have the form EnumValues() []badEnum`},
		{"an enum without values", struct{ A emptyEnum }{}, `struct.A: spec_test.emptyEnum declares no values`},
		{"an enum that panics", struct{ A panicking }{}, `struct.A: spec_test.panicking.EnumValues panics on a zero value: not today`},
		{"an enum tag that is no number", struct {
			A int `enum:"1,x"`
		}{}, `struct.A: the enum value "x" is not an int`},
		{"an enum tag with an empty value", struct {
			A string `enum:"a,,b"`
		}{}, `struct.A: the enum tag "a,,b" has an empty value`},
		{"an enum tag on a bool", struct {
			A bool `enum:"true"`
		}{}, `struct.A: bool cannot be an enum; strings and integers can`},
		{"an enum tag with a value twice", struct {
			A string `enum:"a,a"`
		}{}, `the enum value "a" is there twice`},
		{"a type name that is none", struct{ A badTyper }{}, `struct.A: spec_test.badTyper.DSPyType returned "lisst", which is no type: position 1: there is no type "lisst" (field "badTyper"); did you mean "list"?`},
		{"bytes of its own", struct{ A bytesTyper }{}, `bytes need the Go type []byte`},
		{"the string option", struct {
			A int `json:"a,string"`
		}{}, `struct.A: the json option "string" is not supported`},
		{"an unknown option", struct {
			A int `json:"a,omitempy"` //nolint:staticcheck // the case
		}{}, `struct.A: the json option "omitempy" is not known; use omitempty or omitzero`},
		{"a tag that encoding/json ignores", struct {
			A int `json:"a\"b"` //nolint:staticcheck // the case
		}{}, `struct.A: the name "a\"b" in its json tag is not one that encoding/json takes`},
		{"an embedded pointer to an unexported struct", struct{ *inner }{}, `struct.inner: the embedded pointer *inner cannot be set`},
		{"two embedded fields of one name", struct {
			Left
			Right
		}{}, `struct: the fields Name and Name have the same name "Name" in JSON`},
		{"a name that DSPy cannot take", struct {
			A int `json:"lm"`
		}{}, `the input field name "lm" cannot be used: DSPy's Predict takes an argument of that name`},
		{"a name that is no identifier", struct {
			A int `json:"a-b"` //nolint:tagliatelle // the case
		}{}, `the input field name "a-b" cannot be used: a field's name is made of letters`},
		{"a property that pydantic cannot take", struct {
			A struct {
				B int `json:"_b"` //nolint:tagliatelle // the case
			} `json:"a"`
		}{}, `struct.A.B: the name "_b" cannot be used: pydantic takes no names with a leading underscore`},
		{"an input that is an output", struct {
			A string `json:"answer"`
		}{}, `the field "answer" is an input and an output`},
		{"no struct", "text", `string is not a plain struct; declare one with a field for each input, or use Values with a signature`},
		{"a map without a signature", map[string]any{}, `inputs are values by name, but there is no signature that names them; give one with WithSignature`},
		{"a map of something else", map[string]string{}, `struct is not a plain struct`},
	}
	type out struct {
		Answer string `json:"answer"`
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spec.Build(spec.Predict, spec.Declaration{In: reflect.TypeOf(tt.in), Out: reflect.TypeFor[out]()})
			refused(t, err, status.InvalidProgram, tt.want)
		})
	}
}

type Twice struct {
	A string `json:"reasoning"`
}

func TestBuildRefusesWhatTheModuleCannotRun(t *testing.T) {
	type in struct {
		Q string `json:"q"`
	}
	parsed, err := spec.ParseSignature("reasoning -> answer")
	if err != nil {
		t.Fatal(err)
	}
	values := reflect.TypeFor[map[string]any]()
	tests := []struct {
		name, module string
		d            spec.Declaration
		want         string
	}{
		{"an unknown module", "predct", spec.Declaration{}, `there is no module "predct"; did you mean "predict"?`},
		{"a module far from any", "elephant", spec.Declaration{}, `there is no module "elephant"; the modules are predict, chain_of_thought`},
		{"an output that the module adds", spec.ChainOfThought, spec.Declaration{In: reflect.TypeFor[in](), Out: reflect.TypeFor[Twice]()}, `the output field name "reasoning" cannot be used with chain_of_thought: the module adds an output of that name`},
		{"an input that the module adds", spec.ChainOfThought, spec.Declaration{In: values, Out: values, Signature: &parsed}, `the input field name "reasoning" cannot be used with chain_of_thought`},
		{"no outputs", spec.Predict, spec.Declaration{In: reflect.TypeFor[in](), Out: reflect.TypeFor[struct{}]()}, `there is no output field; declare at least one`},
		{"no types", spec.Predict, spec.Declaration{}, `the input type is missing`},
		{"a struct with a field that the signature lacks", spec.Predict, spec.Declaration{In: reflect.TypeFor[in](), Out: values, Signature: &spec.Signature{Fields: []spec.Field{{Name: "answer", Kind: spec.Output}}}}, `in.Q: the signature has no field "q"; there are no fields`},
		{"a struct without a field of the signature", spec.Predict, spec.Declaration{In: reflect.TypeFor[in](), Out: values, Signature: &parsed}, "in: the signature has the input \"reasoning\", but the struct does not; add a field with `json:\"reasoning\"`"},
		{"instructions that are not UTF-8", spec.Predict, spec.Declaration{In: values, Out: values, Signature: &parsed, Instructions: "\xff"}, `the instructions are not valid UTF-8`},
		{"a bad name", spec.Predict, spec.Declaration{In: values, Out: values, Signature: &parsed, Name: "a b"}, `the signature's name "a b" is not made of letters`},
		{"a config that is no JSON", spec.Predict, spec.Declaration{In: values, Out: values, Signature: &parsed, Config: map[string]any{"n": make(chan int)}}, `config["n"]: chan int is no data`},
		{"a demo with an unknown field", spec.Predict, spec.Declaration{In: values, Out: values, Signature: &parsed, Demos: []any{map[string]any{"anser": 1}}}, `demos[0]: "anser" does not exist; did you mean "answer"?`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spec.Build(tt.module, tt.d)
			refused(t, err, status.InvalidProgram, tt.want)
		})
	}
}

func TestProgramJSONIsCanonicalAndHashed(t *testing.T) {
	type question struct {
		Question string `json:"question" dspy:"a trivia question"`
	}
	type Answer struct {
		Answer     string  `json:"answer" dspy:"one or two words"`
		Confidence float64 `json:"confidence"`
	}
	build := func(instructions string) *spec.Compiled {
		c, err := spec.Build(spec.ChainOfThought, spec.Declaration{
			In: reflect.TypeFor[question](), Out: reflect.TypeFor[Answer](), Instructions: instructions,
			Config: map[string]any{"temperature": 0.5, "max_tokens": 10, "n": 1.0}, Options: map[string]any{},
			Demos: []any{map[string]any{"answer": "Paris", "question": "<Q> & \u2028?", "reasoning": "R"}},
		})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := build("Answer briefly.")
	golden(t, "program.json", append(c.JSON, '\n'))
	if !json.Valid(c.JSON) {
		t.Errorf("it is not JSON: %s", c.JSON)
	}
	if again := build("Answer briefly."); again.Hash != c.Hash || len(c.Hash) != 64 || c.Program.Hash() != c.Hash {
		t.Errorf("equal programs have the hashes %s and %s", c.Hash, again.Hash)
	}
	if other := build("Answer at length."); other.Hash == c.Hash {
		t.Error("different programs have the same hash")
	}
}

func TestSchemasOutsideOfTheDialectAreRefused(t *testing.T) {
	tests := []struct{ name, schema, want string }{
		{"an unknown keyword", `{"type":"integer","minimum":1}`, `unknown field "minimum"`},
		{"an unknown type", `{"type":"tuple"}`, `type "tuple" is not one of JSON Schema's`},
		{"an unknown format", `{"type":"string","format":"uri"}`, `format "uri" is not supported`},
		{"another encoding", `{"type":"string","contentEncoding":"hex"}`, `contentEncoding "hex" is not supported`},
		{"a reference that leads nowhere", `{"$ref":"#/$defs/A"}`, `$ref "#/$defs/A" leads nowhere`},
		{"a reference to itself", `{"$ref":"#/$defs/A","$defs":{"A":{"$ref":"#/$defs/A"}}}`, `leads back to itself`},
		{"a foreign reference", `{"$ref":"http://example.com/"}`, `leads nowhere`},
		{"an empty enum", `{"enum":[]}`, `an enum needs at least one value`},
		{"an enum of floats", `{"enum":[1.5]}`, `the enum value 1.5 is not a string, a whole number`},
		{"a required property that is not there", `{"type":"object","properties":{},"required":["a"]}`, `the required property "a" does not exist`},
		{"properties and more", `{"type":"object","properties":{},"additionalProperties":{}}`, `takes no additionalProperties`},
		{"a title that is no name", `{"type":"object","title":"a b","properties":{}}`, `the title "a b" is not a name`},
		{"two kinds at once", `{"type":"string","enum":["a"]}`, `a schema has one of`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var s spec.Schema
			err := json.Unmarshal([]byte(tt.schema), &s)
			if err == nil {
				err = spec.Signature{Fields: []spec.Field{{Name: "a", Kind: spec.Output, Schema: s}}}.Validate()
			} else {
				err = status.New(status.InvalidArgument, "", "%v", err)
			}
			refused(t, err, status.InvalidArgument, tt.want)
		})
	}
}
