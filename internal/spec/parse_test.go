package spec_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/spec"
	"github.com/dspex/dspex/internal/status"
)

func TestParseSignature(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"a field without a type is a str", "question -> answer", "question: str -> answer: str"},
		{"several fields", "context: list[str], question -> answer: str, score: float", "context: list[str], question: str -> answer: str, score: float"},
		{"no inputs", "-> answer", "-> answer: str"},
		{"space and line breaks", "\n  a :int ,\n\tb\n->\n c : bool\n", "a: int, b: str -> c: bool"},
		{"no space", "a:int,b->c:bool", "a: int, b: str -> c: bool"},
		{"bytes and times", "a: bytes, b: datetime, c: date -> d: datetime.datetime, e: datetime.date", "a: bytes, b: datetime, c: date -> d: datetime, e: date"},
		{"anything", "a: Any, b: object, c: typing.Any -> d", "a: Any, b: Any, c: Any -> d: str"},
		{"nested containers", "a: dict[str, list[dict[str, int]]] -> b: List[Dict[str, Any]]", "a: dict[str, list[dict[str, int]]] -> b: list[dict[str, Any]]"},
		{"containers without arguments", "a: list, b: dict -> c", "a: list[Any], b: dict[str, Any] -> c: str"},
		{"literal strings", `a -> b: Literal['x', "y"]`, "a: str -> b: Literal['x', 'y']"},
		{"literal numbers and bools", "a -> b: Literal[1, -2, True, False]", "a: str -> b: Literal[1, -2, True, False]"},
		{"a literal with None is optional", "a -> b: Literal['x', None]", "a: str -> b: Literal['x'] | None"},
		{"a literal value twice is there once", "a -> b: Literal['x', 'x']", "a: str -> b: Literal['x']"},
		{"separators inside a literal", "a -> b: Literal['x, y', ']', '->', ':']", "a: str -> b: Literal['x, y', ']', '->', ':']"},
		{"escapes in a literal", `a -> b: Literal['it\'s', "say \"hi\"", 'a\\b', 'tab\t', '\x41\u00e9\U0001F600']`, `a: str -> b: Literal['it\'s', 'say "hi"', 'a\\b', 'tab\t', 'Aé😀']`},
		{"optional", "a: Optional[int] -> b: int | None, c: None | str", "a: int | None -> b: int | None, c: str | None"},
		{"unions are flat, null last", "a: Union[int, None, str | float] -> b: Optional[Optional[int]]", "a: int | str | float | None -> b: int | None"},
		{"a union of one", "a: Union[int] -> b: int | int", "a: int -> b: int"},
		{"a union with anything", "a: int | Any | None -> b: Any | str", "a: Any | None -> b: Any"},
		{"unions inside", "a: list[int | str] -> b: dict[str, int | None]", "a: list[int | str] -> b: dict[str, int | None]"},
		{"typing's names", "a: typing.Optional[typing.List[int]] -> b: typing.Literal['x']", "a: list[int] | None -> b: Literal['x']"},
		{"letters beyond ASCII", "größe -> 名前", "größe: str -> 名前: str"},
		{"outputs that shadow Prediction's methods", "a -> items, keys, values, get, copy, inputs, labels, toDict, with_inputs, without, get_lm_usage", "a: str -> items: str, keys: str, values: str, get: str, copy: str, inputs: str, labels: str, toDict: str, with_inputs: str, without: str, get_lm_usage: str"},
		{"outputs named as Predict's arguments", "a -> lm, config, demos, self, completions, new_signature", "a: str -> lm: str, config: str, demos: str, self: str, completions: str, new_signature: str"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := spec.ParseSignature(tt.text)
			if err != nil {
				t.Fatal(err)
			}
			if got.String() != tt.want {
				t.Errorf("String() = %s\nwant       %s", got, tt.want)
			}
			again, err := spec.ParseSignature(got.String())
			if err != nil {
				t.Fatalf("what String prints is not read: %v", err)
			}
			if diff := cmp.Diff(got, again); diff != "" {
				t.Errorf("the signature changed on the way (-before +after):\n%s", diff)
			}
		})
	}
}

func TestParseSignatureSaysWhatIsWrongAndWhere(t *testing.T) {
	tests := []struct {
		name, text, want string
	}{
		{"empty", " \n", `position 1: the signature is empty; write inputs -> outputs`},
		{"no arrow", "question, answer", `position 17: expected "," or "->", found the end; write inputs -> outputs`},
		{"no outputs", "question ->", `position 12: there is no output field; name at least one after "->"`},
		{"two arrows", "a -> b -> c", `position 8: there is a second "->"; a signature has one`},
		{"a comma too many", "a, -> b", `position 4: expected the name of an input field, found "->"`},
		{"a comma at the end", "a -> b,", `position 8: expected the name of an output field, found the end`},
		{"no comma", "a b -> c", `position 3: expected "," or "->", found "b"`},
		{"a missing type", "a: -> b", `position 4: expected the type of "a", such as str or list[str], found "->"`},
		{"a mistyped type", "a: strr -> b", `position 4: there is no type "strr" (field "a"); did you mean "str"?`},
		{"a type of another language", "a: string -> b", `there is no type "string" (field "a"); did you mean "str"?`},
		{"an unknown type", "a: Elephant -> b", `position 4: there is no type "Elephant" (field "a"); the types are str, int,`},
		{"a module as a type", "q -> b: this", `position 9: there is no type "this" (field "b")`},
		{"a dotted module as a type", "q -> b: os.system", `position 9: there is no type "os.system" (field "b")`},
		{"a call as a type", "q -> b: __import__('os')", `position 19: unexpected "("`},
		{"an unsupported container", "a: set[str] -> b", `position 4: the type "set" of "a" is not supported; use list`},
		{"a bracket that does not close", "a: list[str -> b", `position 13: expected "," or "]", found "->"`},
		{"a bracket too many", "a: list[str]] -> b", `position 13: expected "," or "->", found "]"`},
		{"too many arguments", "a: list[str, int] -> b", `position 8: list takes 1 in brackets, not 2`},
		{"no arguments", "a: Optional -> b", `position 13: Optional needs a type in brackets, such as Optional[str]`},
		{"arguments of a plain type", "a: str[5] -> b", `position 7: str takes no arguments in brackets`},
		{"keys that are no strings", "a: dict[int, str] -> b", `position 8: the keys of a dict are str (field "a"); write dict[str, str]`},
		{"a literal without quotes", "a -> b: Literal[yes, no]", `position 17: "yes" is not a value; put strings in quotes: Literal['yes']`},
		{"a literal float", "a -> b: Literal[1.5]", `position 17: "1.5" is not a whole number of 64 bits`},
		{"an empty literal", "a -> b: Literal[]", `position 17: expected a value of Literal, such as 'yes' or 1, found "]"`},
		{"a string that does not end", "a -> b: Literal['x]", `position 17: the string does not end; close it with '`},
		{"an unknown escape", `a -> b: Literal['\q']`, `position 18: the escape \q is not known`},
		{"a surrogate escape", `a -> b: Literal['\ud800']`, `position 18: the escape \ud800 is no character`},
		{"a foreign character", "a -> b = 5", `position 8: unexpected "="`},
		{"not UTF-8", "a\xff -> b", `the signature is not valid UTF-8`},
		{"positions count characters", "größe: strr -> b", `position 8: there is no type "strr"`},
		{"too long", strings.Repeat(" ", 70_000) + "a -> b", `position 1: the signature has 70006 bytes; at most 65536 are read`},
		{"too deep", "a: " + strings.Repeat("list[", 60) + "str" + strings.Repeat("]", 60) + " -> b", `the type of "a" is nested more than 48 deep`},
		{"too many fields", "-> " + strings.Repeat("a, ", 300) + "a", `there are more than 256 fields`},
		{"a field twice", "a, b -> c, c", `position 12: the output field "c" is there twice`},
		{"an input that is an output", "a, b -> c, a", `position 12: the field "a" is an input and an output; give one of them another name`},
		{"a name that starts with a digit", "1a -> b", `position 1: expected the name of an input field, found "1a"`},
		{"a dotted name", "a.b -> c", `position 1: the input field name "a.b" cannot be used: a field's name is made of letters`},
		{"a keyword", "a -> class", `position 6: the output field name "class" cannot be used: it is a keyword of Python`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := spec.ParseSignature(tt.text)
			refused(t, err, status.InvalidArgument, tt.want)
		})
	}
}

// refused checks an error's code and a part of its one line.
func refused(t *testing.T, err error, code status.Code, want string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error; want %s: %s", code, want)
	}
	if got := status.CodeOf(err); got != code {
		t.Errorf("code %s, want %s", got, code)
	}
	if !strings.Contains(err.Error(), want) {
		t.Errorf("error  %v\nwants  %s", err, want)
	}
	if strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("the error has several lines: %q", err)
	}
}

func TestFieldNamesThatDSPyCannotTakeAreRefusedWithTheReason(t *testing.T) {
	const (
		in  = "%s -> answer"
		out = "question -> %s"
	)
	both := map[string]string{
		"fields": "every DSPy signature has an attribute", "signature": "every DSPy signature has an attribute",
		"instructions": "every DSPy signature has an attribute", "input_fields": "every DSPy signature has an attribute",
		"output_fields": "every DSPy signature has an attribute", "model_config": "pydantic uses the name",
		"model_dump": "pydantic protects", "model_dump_json": "pydantic protects", "model_validate": "pydantic protects",
		"model_validate_json": "pydantic protects", "model_validate_strings": "pydantic protects",
		"_hidden": "leading underscore", "__class__": "leading underscore", "_": "leading underscore",
		"import": "keyword of Python", "None": "keyword of Python",
	}
	inputs := map[string]string{
		"lm": "Predict takes an argument", "config": "Predict takes an argument", "demos": "Predict takes an argument",
		"new_signature": "Predict takes an argument", "completions": "collides with an argument",
		"self": "collides with an argument", "prediction: dict[str, str]": "argument of the language model",
	}
	outputs := map[string]string{"model_json_schema": "JSON adapter calls the method"}
	check := func(pattern string, names map[string]string, fine bool) {
		for name, reason := range names {
			text := strings.Replace(pattern, "%s", name, 1)
			t.Run(text, func(t *testing.T) {
				_, err := spec.ParseSignature(text)
				if fine {
					if err != nil {
						t.Errorf("DSPy takes it, but: %v", err)
					}
					return
				}
				refused(t, err, status.InvalidArgument, reason)
			})
		}
	}
	check(in, both, false)
	check(out, both, false)
	check(in, inputs, false)
	check(out, outputs, false)
	check(out, inputs, true)
	check(in, outputs, true)
	check(in, map[string]string{"prediction": "", "completed": "", "model_name": "", "copy": "", "json": "", "schema": "", "dict": "", "match": "", "type": ""}, true)
	check(out, map[string]string{"completed": "", "model_fields": "", "copy": "", "json": "", "schema": "", "reasoning": "", "trace": ""}, true)
}

func TestSignatureReadsItsOwnJSON(t *testing.T) {
	for _, text := range []string{
		"question -> answer",
		"-> a: bytes, b: datetime | None, c: list[dict[str, Any]], d: Literal['x', 1, True] | None",
	} {
		before, err := spec.ParseSignature(text)
		if err != nil {
			t.Fatal(err)
		}
		data, err := json.Marshal(before)
		if err != nil {
			t.Fatal(err)
		}
		var after spec.Signature
		if err := json.Unmarshal(data, &after); err != nil {
			t.Fatalf("%s: %v", data, err)
		}
		if diff := cmp.Diff(before, after); diff != "" {
			t.Errorf("%s (-before +after):\n%s", text, diff)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, text := range []string{
		"question -> answer", "context: list[str], question -> answer: str, score: float",
		`-> a: Literal['x', "y\n", -1, True, None], b: Optional[dict[str, Union[int, list[bytes]]]]`,
		"a: list[", "->", "a: b.c -> _", "é: Any | None -> 名前", `a -> b: Literal['\U0010FFFF']`, "q -> b: this",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		first, err := spec.ParseSignature(text)
		if err != nil {
			if status.CodeOf(err) != status.InvalidArgument {
				t.Fatalf("%q: code of %v", text, err)
			}
			if strings.ContainsAny(err.Error(), "\n\r") {
				t.Fatalf("%q: several lines: %q", text, err)
			}
			return
		}
		if err := first.Validate(); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		second, err := spec.ParseSignature(first.String())
		if err != nil {
			t.Fatalf("%q prints as %q, which is not read: %v", text, first, err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("%q (-first +second):\n%s", text, diff)
		}
	})
}
