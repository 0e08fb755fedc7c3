package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"slices"
	"strings"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/spec"
)

// readInputs collects a program's inputs from --input and from NAME=VALUE arguments, which
// win. Missing and unknown ones are usage errors; whether a value has its field's type is
// found where values are encoded.
func (a *app) readInputs(signature dspex.Signature, path string, pairs []string) (dspex.Values, error) {
	inputs := make(dspex.Values)
	if path != "" {
		var err error
		if inputs, err = a.readInputFile(path); err != nil {
			return nil, err
		}
	}
	given := make(map[string]bool)
	for _, pair := range pairs {
		name, raw, ok := strings.Cut(pair, "=")
		if !ok {
			return nil, usagef("%q is no input: write NAME=VALUE", pair)
		}
		if given[name] {
			return nil, usagef("the input %q is given twice; keep one", name)
		}
		given[name] = true
		if field, ok := signature.Field(name); ok {
			inputs[name] = inputValue(&field.Schema, raw)
		} else {
			inputs[name] = raw
		}
	}
	var known []string
	for _, field := range signature.Inputs() {
		known = append(known, field.Name)
	}
	for _, name := range slices.Sorted(maps.Keys(inputs)) {
		if !slices.Contains(known, name) {
			return nil, usagef("unknown input %q%s", name, suggest(name, known))
		}
	}
	for _, field := range signature.Inputs() {
		if _, ok := inputs[field.Name]; !ok && !field.Optional() {
			return nil, usagef("the input %q is missing: give %s=VALUE", field.Name, field.Name)
		}
	}
	return inputs, nil
}

func (a *app) readInputFile(path string) (dspex.Values, error) {
	var (
		text []byte
		err  error
	)
	if path == "-" {
		text, err = io.ReadAll(a.std.in)
	} else {
		text, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, usagef("cannot read the inputs: %v", err)
	}
	value, err := decode(bytes.TrimPrefix(text, []byte("\ufeff"))) // Windows programs begin a file with this mark.
	if err != nil {
		return nil, usagef("--input %s: want one JSON object of inputs: %v", path, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, usagef("--input %s: want one JSON object of inputs", path)
	}
	return object, nil
}

// checkInputs reports values that do not have their field's type.
func checkInputs(signature dspex.Signature, inputs dspex.Values) error {
	compiled, err := spec.Build(spec.Predict, spec.Declaration{
		In: reflect.TypeFor[dspex.Values](), Out: reflect.TypeFor[dspex.Values](), Signature: &signature,
	})
	if err == nil {
		_, _, err = compiled.Encode(inputs)
	}
	return asUsage(err)
}

// inputValue reads an argument: the text of a str as it is, anything else as JSON or, where
// it is none, as a bare word.
func inputValue(schema *spec.Schema, raw string) any {
	if takesText(schema) {
		return raw
	}
	value, err := decode([]byte(raw))
	if err != nil {
		return raw
	}
	return value
}

// takesText reports whether a value is text, whatever it looks like: a str, a date, one of
// several words, or one of these or nothing.
func takesText(schema *spec.Schema) bool {
	if schema.AnyOf != nil {
		return slices.ContainsFunc(schema.AnyOf, takesText) &&
			!slices.ContainsFunc(schema.AnyOf, func(s *spec.Schema) bool { return s.Type != "null" && !takesText(s) })
	}
	for _, value := range schema.Enum {
		if !bytes.HasPrefix(value, []byte(`"`)) {
			return false
		}
	}
	return schema.Type == "string" || schema.Enum != nil
}

// decode reads one JSON value; its numbers keep every digit.
func decode(text []byte) (any, error) {
	if err := strict(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var value any
	if err := d.Decode(&value); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("there is more after it")
	}
	return value, nil
}

// outputs are a program's results in the order of its signature.
type outputs struct {
	signature dspex.Signature
	values    dspex.Values
}

// MarshalJSON writes an object in that order.
func (o outputs) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, field := range o.signature.Outputs() {
		if i > 0 {
			b.WriteByte(',')
		}
		name, err := json.Marshal(field.Name)
		if err != nil {
			return nil, err
		}
		value, err := plainJSON(o.values[field.Name])
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", field.Name, err)
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// print writes a line for each output: text as it is, anything else as JSON.
func (o outputs) print(w io.Writer) error {
	for _, field := range o.signature.Outputs() {
		value := o.values[field.Name]
		if s, ok := value.(string); ok {
			fmt.Fprintf(w, "%s: %s\n", field.Name, s)
			continue
		}
		text, err := plainJSON(value)
		if err != nil {
			return fmt.Errorf("output %s: %w", field.Name, err)
		}
		fmt.Fprintf(w, "%s: %s\n", field.Name, text)
	}
	return nil
}

// plainJSON writes a value without escaping what HTML would need.
func plainJSON(value any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}
