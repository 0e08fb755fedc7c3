package spec_test

import (
	"encoding/json"
	"math"
	"math/big"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/status"
)

type answer struct {
	Answer string `json:"answer"`
}

// echo is a program whose outputs are those of its inputs' type.
func echo(t testing.TB, in, out reflect.Type) *spec.Compiled {
	t.Helper()
	c, err := spec.Build(spec.Predict, spec.Declaration{In: in, Out: out})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// dynamic is a program with values by name.
func dynamic(t testing.TB, text string) *spec.Compiled {
	t.Helper()
	s, err := spec.ParseSignature(text)
	if err != nil {
		t.Fatal(err)
	}
	values := reflect.TypeFor[map[string]any]()
	c, err := spec.Build(spec.Predict, spec.Declaration{In: values, Out: values, Signature: &s})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestEncodeTypedInputs(t *testing.T) {
	one := 1
	tests := []struct {
		name string
		in   any
		want string
		data []string
	}{
		{"a zero value is a value", struct {
			S string  `json:"s"`
			I int     `json:"i"`
			F float64 `json:"f"`
			B bool    `json:"b"`
		}{}, `{"s":"","i":0,"f":0.0,"b":false}`, nil},
		{"nil slices and maps are empty", struct {
			L []int             `json:"l"`
			M map[string]int    `json:"m"`
			N [][]int           `json:"n"`
			S struct{ A []int } `json:"s"`
		}{N: [][]int{nil}}, `{"l":[],"m":{},"n":[[]],"s":{"A":[]}}`, nil},
		{"nil pointers and omitted zeros are absent", struct {
			P *int      `json:"p"`
			E string    `json:"e,omitempty"`
			Z time.Time `json:"z,omitzero"`
			L []int     `json:"l,omitempty"`
			Q *int      `json:"q"`
			S struct {
				P *int `json:"p"`
				X int  `json:"x"`
			} `json:"s"`
		}{Q: &one}, `{"q":1,"s":{"x":0}}`, nil},
		{"a float is never an int", struct{ A, B, C, D float64 }{1, 1e30, -0.5, 1e-9}, `{"A":1.0,"B":1e+30,"C":-0.5,"D":1e-09}`, nil},
		{"a float32 is written as short as it is", struct{ A float32 }{0.1}, `{"A":0.1}`, nil},
		{"whole numbers keep their digits", struct {
			A int64
			B uint64
			C big.Int
			D json.Number
		}{math.MinInt64, math.MaxUint64, *new(big.Int).Exp(big.NewInt(10), big.NewInt(30), nil), "1.50"}, `{"A":-9223372036854775808,"B":18446744073709551615,"C":1000000000000000000000000000000,"D":1.50}`, nil},
		{"text is escaped only where JSON says", struct{ A string }{"<a> & \"b\" \\ \n\t\r\x00\x1f\u2028 é 😀 \uFFFD \\ufffd"}, "{\"A\":\"<a> & \\\"b\\\" \\\\ \\n\\t\\r\\u0000\\u001f\u2028 é 😀 \uFFFD \\\\ufffd\"}", nil},
		{"bytes at any depth are attachments", struct {
			A []byte
			B map[string][]byte
			C []struct{ D *[]byte }
			E []byte
		}{[]byte("one"), map[string][]byte{"x": []byte("two"), "a": []byte("three")}, []struct{ D *[]byte }{{}, {new([]byte)}}, nil}, `{"A":{"$attachment":0},"B":{"a":{"$attachment":1},"x":{"$attachment":2}},"C":[{},{"D":{"$attachment":3}}],"E":{"$attachment":4}}`, []string{"one", "three", "two", "", ""}},
		{"times are cut to microseconds and keep their offset", struct{ A, B time.Time }{
			time.Date(2024, 2, 29, 1, 2, 3, 123456789, time.FixedZone("", 5400)), time.Time{},
		}, `{"A":"2024-02-29T01:02:03.123456+01:30","B":"0001-01-01T00:00:00Z"}`, nil},
		{"an offset in seconds becomes UTC", struct{ A time.Time }{time.Date(2024, 1, 1, 0, 0, 10, 0, time.FixedZone("", 10))}, `{"A":"2024-01-01T00:00:00Z"}`, nil},
		{"enums by method, by tag and by text", struct {
			A Level
			B []Priority
			C Color
			D string `enum:"x,y"`
		}{"high", []Priority{1, 3}, 1, "y"}, `{"A":"high","B":[1,3],"C":"blue","D":"y"}`, nil},
		{"an omitted enum needs no value", struct {
			A Level `json:"a,omitempty"`
			B int   `json:"b"`
		}{}, `{"b":0}`, nil},
		{"types with their own text and JSON", struct {
			A netip.Addr
			B Vector
			C map[string]Vector
		}{netip.MustParseAddr("::1"), Vector{1, 2}, map[string]Vector{"k": {}}}, `{"A":"::1","B":[1,2],"C":{"k":[0,0]}}`, nil},
		{"raw JSON and anything", struct {
			A json.RawMessage
			B any
			C any
			D any
			E any
		}{json.RawMessage(` {"a" : [1, "\u00e9\ud83d\ude00"]} `), map[string]any{"z": 1.0, "a": []any{nil, true, "x", json.Number("2")}}, struct{ X []int }{}, nil, []string(nil)}, `{"A":{"a":[1,"\u00e9\ud83d\ude00"]},"B":{"a":[null,true,"x",2],"z":1.0},"C":{"X":[]},"D":null,"E":[]}`, nil},
		{"embedded structs are flattened", struct {
			Base
			B string `json:"b"`
		}{Base{ID: "i"}, "x"}, `{"id":"i","b":"x"}`, nil},
		{"an embedded struct that is not exported", struct {
			inner
			B string `json:"b"`
		}{inner{A: "i"}, "x"}, `{"A":"i","b":"x"}`, nil},
		{"a nil embedded pointer leaves its fields out", struct {
			*Base
			B string `json:"b"`
		}{nil, "x"}, `{"b":"x"}`, nil},
		{"a tree", struct{ T Tree }{Tree{Value: 1, Children: []Tree{{Value: 2}}}}, `{"T":{"value":1,"children":[{"value":2,"children":[]}]}}`, nil},
		{"a pointer to the inputs", &answer{"x"}, `{"answer":"x"}`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := echo(t, reflect.TypeOf(tt.in), reflect.TypeFor[struct {
				Out int `json:"out"`
			}]())
			body, attachments, err := c.Encode(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(body) != tt.want {
				t.Errorf("got  %s\nwant %s", body, tt.want)
			}
			if !json.Valid(body) {
				t.Error("it is not JSON")
			}
			var data []string
			for _, a := range attachments {
				data = append(data, string(a))
			}
			if diff := cmp.Diff(tt.data, data); diff != "" {
				t.Errorf("attachments (-want +got):\n%s", diff)
			}
		})
	}
}

func TestEncodeNamesTheGoFieldThatCannotBeSent(t *testing.T) {
	type Item struct {
		Name  string
		Score float64
		Any   any
		Raw   json.RawMessage
		Level Level `json:"level,omitempty"`
		When  time.Time
		Num   json.Number
		Next  *Item
	}
	type Question struct {
		Items []Item          `json:"items"`
		ByKey map[string]Item `json:"by_key"`
	}
	loop := &Item{}
	loop.Next = loop
	cycle := map[string]any{}
	cycle["again"] = []any{&cycle}
	with := func(i Item) Question { return Question{Items: []Item{{}, i}} }
	tests := []struct {
		name string
		in   any
		want string
	}{
		{"NaN", with(Item{Score: math.NaN()}), `input Question.Items[1].Score: NaN is not a number that JSON can say`},
		{"infinity", with(Item{Score: math.Inf(-1)}), `input Question.Items[1].Score: -Inf is not a number`},
		{"in a map", Question{ByKey: map[string]Item{"a b": {Score: math.NaN()}}}, `input Question.ByKey["a b"].Score: NaN`},
		{"invalid UTF-8", with(Item{Name: "a\xffb"}), `input Question.Items[1].Name: the string is not valid UTF-8`},
		{"a lone surrogate as bytes", with(Item{Name: "\xed\xa0\x80"}), `input Question.Items[1].Name: the string is not valid UTF-8`},
		{"a key that is not UTF-8", Question{ByKey: map[string]Item{"\xff": {}}}, `the key is not valid UTF-8`},
		{"a lone surrogate in raw JSON", with(Item{Raw: json.RawMessage(`["\ud800"]`)}), `input Question.Items[1].Raw: the escape \ud800 is half of a surrogate pair`},
		{"a surrogate pair the wrong way round", with(Item{Raw: json.RawMessage(`"\udc00\ud800"`)}), `half of a surrogate pair`},
		{"raw text that is no JSON", with(Item{Raw: json.RawMessage(`{`)}), `input Question.Items[1].Raw: it is not JSON`},
		{"a raw float that is too large", with(Item{Raw: json.RawMessage(`[1e999]`)}), `Question.Items[1].Raw: 1e999 does not fit a 64-bit float`},
		{"something that is no data", with(Item{Any: []any{1, make(chan int)}}), `input Question.Items[1].Any[1]: chan int is no data`},
		{"bytes in a value of any type", with(Item{Any: map[string]any{"a": []byte("x")}}), `input Question.Items[1].Any["a"]: bytes have no place in a value of any type; declare the field as []byte`},
		{"bytes in a struct in a value of any type", with(Item{Any: struct{ B []byte }{}}), `input Question.Items[1].Any.B: bytes have no place`},
		{"NaN in a value of any type", with(Item{Any: []any{math.NaN()}}), `input Question.Items[1].Any[0]: NaN`},
		{"a value that its enum does not have", with(Item{Level: "medium"}), `input Question.Items[1].Level: "medium" is not one of "low", "high"`},
		{"a year that Python does not have", with(Item{When: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)}), `input Question.Items[1].When: the year 10000 is outside of what Python's datetime can hold`},
		{"a number that is none", with(Item{Num: "1x"}), `input Question.Items[1].Num: "1x" is not a number`},
		{"a value that contains itself", with(*loop), `is nested more than 200 deep, or contains itself`},
		{"anything that contains itself", with(Item{Any: cycle}), `is nested more than 200 deep, or contains itself`},
		{"another type", answer{}, `input Question: it is nil or of another type, not a spec_test.Question`},
		{"nil", (*Question)(nil), `input Question: it is nil or of another type`},
	}
	c := echo(t, reflect.TypeFor[Question](), reflect.TypeFor[answer]())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := c.Encode(tt.in)
			refused(t, err, status.InvalidArgument, tt.want)
		})
	}
}

func TestDecodeTypedOutputs(t *testing.T) {
	type Out struct {
		S  string           `json:"s"`
		I  int8             `json:"i"`
		F  float64          `json:"f"`
		P  *int             `json:"p"`
		O  string           `json:"o,omitempty"`
		B  []byte           `json:"b"`
		L  [][]byte         `json:"l"`
		M  map[Level]*Color `json:"m"`
		T  time.Time        `json:"t"`
		A  any              `json:"a"`
		R  json.RawMessage  `json:"r"`
		V  Vector           `json:"v"`
		Ip netip.Addr       `json:"ip"`
		H  big.Int          `json:"h"`
		Tr Tree             `json:"tr"`
		X  [2]bool          `json:"x"`
	}
	c, err := spec.Build(spec.ChainOfThought, spec.Declaration{In: reflect.TypeFor[struct{}](), Out: reflect.TypeFor[Out]()})
	if err != nil {
		t.Fatal(err)
	}
	var got Out
	reasoning, err := c.Decode(json.RawMessage(`{"reasoning": "because", "s": "é\u00e9", "i": -5, "f": 3, "p": null, "o": null,
		"b": {"$attachment": 1}, "l": [{"$attachment": 0}, {"$attachment": 2}], "m": {"low": "blue", "other": null},
		"t": "2024-01-02T03:04:05.123456", "a": {"i": 1, "u": 18446744073709551615, "h": 18446744073709551616, "f": 1.0, "n": null, "$attachment": 0},
		"r": [1, {"b": "<", "a": 1e2}], "v": [1, 2.5], "ip": "10.0.0.1", "h": 100000000000000000000,
		"tr": {"value": 1, "children": [{"value": 2, "children": [], "parent": null}]}, "x": [true, false], "unknown": 1}`),
		[][]byte{[]byte("zero"), []byte("one"), nil}, &got)
	if err != nil {
		t.Fatal(err)
	}
	if reasoning != "because" {
		t.Errorf("reasoning = %q", reasoning)
	}
	blue := Color(1)
	huge, _ := new(big.Int).SetString("100000000000000000000", 10)
	want := Out{
		S: "éé", I: -5, F: 3, B: []byte("one"), L: [][]byte{[]byte("zero"), {}}, M: map[Level]*Color{"low": &blue, "other": nil},
		T: time.Date(2024, 1, 2, 3, 4, 5, 123456000, time.UTC),
		A: map[string]any{"i": int64(1), "u": uint64(math.MaxUint64), "h": json.Number("18446744073709551616"), "f": 1.0, "n": nil, "$attachment": int64(0)},
		R: json.RawMessage(`[1,{"a":1e2,"b":"<"}]`), V: Vector{1, 2.5}, Ip: netip.MustParseAddr("10.0.0.1"), H: *huge,
		Tr: Tree{Value: 1, Children: []Tree{{Value: 2, Children: []Tree{}}}}, X: [2]bool{true, false},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

func TestDecodeNamesTheGoFieldThatTheAnswerDoesNotFit(t *testing.T) {
	type Item struct {
		Name string `json:"name"`
	}
	type Out struct {
		Score int8            `json:"score"`
		Items []Item          `json:"items"`
		Level Level           `json:"level"`
		Data  []byte          `json:"data"`
		When  time.Time       `json:"when"`
		Pair  [2]int          `json:"pair"`
		ByKey map[string]bool `json:"by_key"`
		Any   any             `json:"any"`
	}
	fine := map[string]string{
		"score": "1", "items": "[]", "level": `"low"`, "data": `{"$attachment":0}`, "when": `"2024-01-01T00:00:00Z"`,
		"pair": "[1,2]", "by_key": "{}", "any": "null",
	}
	tests := []struct {
		name, field, value, want string
	}{
		{"a missing output", "score", "", `output Out.Score: it is missing`},
		{"a missing output of any type", "any", "", `output Out.Any: it is missing`},
		{"null for a field that cannot be nil", "score", "null", `output Out.Score: it is null, not a number`},
		{"null for a list", "items", "null", `output Out.Items: it is null, not a list`},
		{"another type", "score", `"5"`, `output Out.Score: it is the text "5", not a number`},
		{"a bool for a number", "score", `true`, `output Out.Score: it is true, not a number`},
		{"a number that does not fit", "score", "300", `output Out.Score: the number 300 does not fit the Go type int8`},
		{"a number that is not whole", "score", "1.5", `output Out.Score: the number 1.5 does not fit the Go type int8`},
		{"a float for an int", "score", "1.0", `output Out.Score: the number 1.0 does not fit the Go type int8`},
		{"a missing property", "items", `[{"name":"a"},{}]`, `output Out.Items[1].Name: it is missing`},
		{"a value that its enum does not have", "level", `"medium"`, `output Out.Level: it is the text "medium", not one of "low", "high"`},
		{"bytes that are text", "data", `"aGk="`, `output Out.Data: it is the text "aGk=", not bytes`},
		{"bytes that did not come", "data", `{"$attachment":1}`, `output Out.Data: there is no attachment 1; the answer has 1`},
		{"bytes with a negative index", "data", `{"$attachment":-1}`, `output Out.Data: there is no attachment -1`},
		{"a time that is none", "when", `"yesterday"`, `output Out.When: it is the text "yesterday", not a time such as`},
		{"too few elements", "pair", `[1]`, `output Out.Pair: it has 1 elements, not 2`},
		{"a wrong value in a map", "by_key", `{"a":1}`, `output Out.ByKey["a"]: it is the number 1, not true or false`},
	}
	c := echo(t, reflect.TypeFor[struct{}](), reflect.TypeFor[Out]())
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			parts := []string{}
			for name, value := range fine {
				if name == tt.field {
					value = tt.value
				}
				if value != "" {
					parts = append(parts, `"`+name+`":`+value)
				}
			}
			var out Out
			_, err := c.Decode(json.RawMessage("{"+strings.Join(parts, ",")+"}"), [][]byte{[]byte("x")}, &out)
			refused(t, err, status.InvalidOutput, tt.want)
		})
	}
	t.Run("what is no JSON is a defect of the worker", func(t *testing.T) {
		for _, text := range []string{``, `[]`, `{`, `{} {}`, "{\"a\":\"\xff\"}", `{"a":"\ud800"}`} {
			var out Out
			_, err := c.Decode(json.RawMessage(text), nil, &out)
			refused(t, err, status.Internal, "the worker's outputs cannot be read")
		}
	})
}

func TestEncodeValuesByName(t *testing.T) {
	tests := []struct {
		name, signature string
		in              map[string]any
		want            string
	}{
		{"scalars", "s, i: int, f: float, b: bool -> o", map[string]any{"s": "x", "i": int8(1), "f": 2, "b": true}, `{"s":"x","i":1,"f":2,"b":true}`},
		{"what encoding/json makes of numbers", "i: int, f: float, n: list[int] -> o", map[string]any{"i": 34.0, "f": 1.5, "n": []any{json.Number("7"), 1e15}}, `{"i":34,"f":1.5,"n":[7,1000000000000000]}`},
		{"the order is the signature's", "b, a -> o", map[string]any{"a": "1", "b": "2"}, `{"b":"2","a":"1"}`},
		{"optional inputs may be left out or nil", "a: int | None, b: str | None, c: Any -> o", map[string]any{"b": nil, "c": nil}, `{"c":null}`},
		{"bytes, times and days", "a: bytes, b: datetime, c: date, d: datetime -> o", map[string]any{"a": []byte("x"), "b": time.Unix(0, 0).UTC(), "c": "2024-01-31", "d": "2024-01-31 10:00:00"}, `{"a":{"$attachment":0},"b":"1970-01-01T00:00:00Z","c":"2024-01-31","d":"2024-01-31T10:00:00Z"}`},
		{"unions take the first that fits", "a: int | str, b: int | str, c: list[int] | dict[str, bytes] -> o", map[string]any{"a": "x", "b": 1, "c": map[string][]byte{"k": nil}}, `{"a":"x","b":1,"c":{"k":{"$attachment":0}}}`},
		{"literals", "a: Literal['x', 1, True], b: Literal['x', 1, True], c: Literal['x', 1, True] -> o", map[string]any{"a": "x", "b": 1, "c": true}, `{"a":"x","b":1,"c":true}`},
		{"typed containers", "a: list[str], b: dict[str, list[int]] -> o", map[string]any{"a": []string{"x"}, "b": map[string][]int{"k": {1}}}, `{"a":["x"],"b":{"k":[1]}}`},
		{"pointers", "a: int, b: list[int] -> o", map[string]any{"a": new(int), "b": &[]*int{new(int)}}, `{"a":0,"b":[0]}`},
		{"no inputs", "-> o", nil, `{}`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, _, err := dynamic(t, tt.signature).Encode(tt.in)
			if err != nil {
				t.Fatal(err)
			}
			if string(body) != tt.want {
				t.Errorf("got  %s\nwant %s", body, tt.want)
			}
		})
	}
}

func TestEncodeNamesTheInputThatDoesNotFit(t *testing.T) {
	tests := []struct {
		name, signature string
		in              any
		want            string
	}{
		{"a missing input", "question -> o", map[string]any{}, `input question (str) is missing`},
		{"an input that does not exist", "question -> o", map[string]any{"question": "x", "questoin": "y"}, `input "questoin" does not exist; did you mean "question"?`},
		{"an input far from any", "question, context -> o", map[string]any{"elephant": "y"}, `input "elephant" does not exist; the inputs are question, context`},
		{"an output as input", "question -> o", map[string]any{"question": "x", "o": "y"}, `input "o" does not exist; the inputs are question`},
		{"an input where there are none", "-> o", map[string]any{"a": 1}, `input "a" does not exist; the program takes none`},
		{"nil for a value", "question -> o", map[string]any{"question": nil}, `input question: it is null, not str`},
		{"a number for text", "question -> o", map[string]any{"question": 5}, `input question: it is the number 5, not str`},
		{"text for a number", "n: int -> o", map[string]any{"n": "5"}, `input n: it is the text "5", not int`},
		{"a float for a whole number", "n: int -> o", map[string]any{"n": 1.5}, `input n: it is the number 1.5, not int`},
		{"a float too large to be exact", "n: int -> o", map[string]any{"n": 1e17}, `input n: it is the number 1e+17, not int`},
		{"NaN", "n: float -> o", map[string]any{"n": math.NaN()}, `input n: NaN is not a number`},
		{"inside a list", "n: list[dict[str, int]] -> o", map[string]any{"n": []any{map[string]any{"k": 1}, map[string]any{"k": "x"}}}, `input n[1]["k"]: it is the text "x", not int`},
		{"a value that the literal does not have", "n: Literal['a', 'b'] -> o", map[string]any{"n": "c"}, `input n: "c" is not one of "a", "b"`},
		{"another type than the literal's", "n: Literal['a', 'b'] -> o", map[string]any{"n": 1.5}, `input n: it is the number 1.5, not one of "a", "b"`},
		{"nothing of a union", "n: int | bool -> o", map[string]any{"n": "c"}, `input n: it is the text "c", not int | bool`},
		{"an optional of another type", "n: int | None -> o", map[string]any{"n": "c"}, `input n: it is the text "c", not int`},
		{"bytes as text", "n: bytes -> o", map[string]any{"n": "c"}, `input n: it is the text "c", not bytes; give a []byte`},
		{"a list for a dict", "n: dict[str, int] -> o", map[string]any{"n": []any{}}, `input n: it is a Go []interface {}, not dict[str, int]`},
		{"bytes for a list", "n: list[int] -> o", map[string]any{"n": []byte("x")}, `input n: it is a Go []uint8, not list[int]`},
		{"a date that is none", "n: date -> o", map[string]any{"n": "31.1.2024"}, `input n: it is the text "31.1.2024", not date; give a time.Time or text such as 2006-01-02`},
		{"text that is not UTF-8", "n -> o", map[string]any{"n": "\xff"}, `input n: the string is not valid UTF-8`},
		{"something else than a map", "n -> o", "text", `input values: it is a Go string, not a map of inputs by name`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, _, err := dynamic(t, tt.signature).Encode(tt.in)
			refused(t, err, status.InvalidArgument, tt.want)
		})
	}
}

type Values map[string]any

func TestDecodeValuesByName(t *testing.T) {
	s, err := spec.ParseSignature("-> s, i: int, f: float, b: bool, t: datetime, d: date, x: bytes, l: list[int | str], m: dict[str, float], o: int | None, a: Any, e: Literal[1, 'x']")
	if err != nil {
		t.Fatal(err)
	}
	values := reflect.TypeFor[Values]()
	c, err := spec.Build(spec.Predict, spec.Declaration{In: values, Out: values, Signature: &s})
	if err != nil {
		t.Fatal(err)
	}
	var got Values
	_, err = c.Decode(json.RawMessage(`{"s":"x","i":18446744073709551615,"f":1,"b":true,"t":"2024-01-01T00:00:00","d":"2024-01-31","x":{"$attachment":0},"l":[1,"a"],"m":{"k":2},"o":null,"a":[1,1.0],"e":1,"reasoning":"not asked for"}`), [][]byte{[]byte("b")}, &got)
	if err != nil {
		t.Fatal(err)
	}
	want := Values{
		"s": "x", "i": uint64(math.MaxUint64), "f": 1.0, "b": true, "t": time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), "d": "2024-01-31",
		"x": []byte("b"), "l": []any{int64(1), "a"}, "m": map[string]any{"k": 2.0}, "o": nil, "a": []any{int64(1), 1.0}, "e": int64(1),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for text, want := range map[string]string{
		`{}`:                     `output s: it is missing`,
		`{"s":null}`:             `output s: it is null, not a string`,
		`{"s":"","i":1.0}`:       `output i: it is the number 1.0, not a whole number`,
		`{"s":"","i":1,"f":"x"}`: `output f: it is the text "x", not a number`,
	} {
		_, err := c.Decode(json.RawMessage(text), nil, &got)
		refused(t, err, status.InvalidOutput, want)
	}
}

func TestAStructAndASignatureTogether(t *testing.T) {
	s, err := spec.ParseSignature("question, n: int | None -> answer, score: float")
	if err != nil {
		t.Fatal(err)
	}
	type In struct {
		N        *int   `json:"n"`
		Question string `json:"question"`
	}
	d := spec.Declaration{In: reflect.TypeFor[In](), Out: reflect.TypeFor[map[string]any](), Signature: &s}
	c, err := spec.Build(spec.Predict, d)
	if err != nil {
		t.Fatal(err)
	}
	one := 1
	body, _, err := c.Encode(In{N: &one, Question: "q"})
	if err != nil || string(body) != `{"question":"q","n":1}` {
		t.Errorf("Encode = %s, %v", body, err)
	}
	type wrong struct {
		N        int    `json:"n"`
		Question string `json:"question"`
	}
	d.In = reflect.TypeFor[wrong]()
	_, err = spec.Build(spec.Predict, d)
	refused(t, err, status.InvalidProgram, "wrong.N: the struct says int, the signature says int | None")
}

func TestDemos(t *testing.T) {
	type Question struct {
		Question string `json:"question"`
		Data     []byte `json:"data"`
	}
	c, err := spec.Build(spec.ChainOfThought, spec.Declaration{In: reflect.TypeFor[Question](), Out: reflect.TypeFor[answer]()})
	if err != nil {
		t.Fatal(err)
	}
	got, err := c.Demo(Question{"q", []byte("hi")}, answer{"a"}, map[string]any{"reasoning": "r"})
	if want := `{"reasoning":"r","question":"q","data":"aGk=","answer":"a"}`; err != nil || string(got) != want {
		t.Errorf("Demo = %s, %v; want %s", got, err, want)
	}
	if got, err := c.Demo(map[string]any{"answer": "a"}); err != nil || string(got) != `{"answer":"a"}` {
		t.Errorf("Demo = %s, %v", got, err)
	}
	_, err = c.Demo(map[string]any{"answer": 1})
	refused(t, err, status.InvalidArgument, "demo answer: it is the number 1, not str")
	_, err = c.Demo("text")
	refused(t, err, status.InvalidArgument, "not a map or a struct of fields by name")
}

func TestParseValueReadsWhatIsTypedOnACommandLine(t *testing.T) {
	tests := []struct {
		kind, text string
		want       any
	}{
		{"str", "34", "34"},
		{"str", `"x"`, `"x"`},
		{"str | None", "null", "null"},
		{"int", "34", json.Number("34")},
		{"bool", "true", true},
		{"list[str]", `["a"]`, []any{"a"}},
		{"Literal['1', '2']", "1", "1"},
		{"int | str", "34", json.Number("34")},
		{"int | str", "x", "x"},
		{"datetime", "2024-01-01", "2024-01-01"},
		{"Any", "[1", "[1"},
		{"Any", "[1]", []any{json.Number("1")}},
	}
	for _, tt := range tests {
		s, err := spec.ParseSignature("a: " + tt.kind + " -> b")
		if err != nil {
			t.Fatal(err)
		}
		got, err := s.Fields[0].ParseValue(tt.text)
		if diff := cmp.Diff(tt.want, got); err != nil || diff != "" {
			t.Errorf("%s from %q: %v\n%s", tt.kind, tt.text, err, diff)
		}
	}
	s, err := spec.ParseSignature("age: int -> b")
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Fields[0].ParseValue("old")
	refused(t, err, status.InvalidArgument, `input age: "old" is not of type int; write it as JSON`)
}

func TestDefaultsMustFitTheirField(t *testing.T) {
	s := spec.Signature{Fields: []spec.Field{
		{Name: "a", Kind: spec.Input, Schema: spec.Schema{Type: "integer"}, Default: json.RawMessage("5")},
		{Name: "b", Kind: spec.Output},
	}}
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	s.Fields[0].Default = json.RawMessage(`"5"`)
	refused(t, s.Validate(), status.InvalidArgument, `the field a: the default does not fit: it is the text "5", not int`)
	s.Fields[0].Default = nil
	s.Fields[1].Default = json.RawMessage(`1`)
	refused(t, s.Validate(), status.InvalidArgument, `the field b: an output has no default`)
}
