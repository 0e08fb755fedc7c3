package spec

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// isIdentifier reports whether name is made of letters, digits and underscores and does
// not start with a digit. It is a little stricter than Python's rule: DSPy's chat format
// finds field names with the pattern \w+, which matches no combining marks.
func isIdentifier(name string) bool {
	for i, r := range name {
		switch {
		case r == '_' || unicode.IsLetter(r):
		case i > 0 && unicode.Is(unicode.Nd, r):
		default:
			return false
		}
	}
	return name != ""
}

// keyword reports whether name is a keyword of Python. A signature given as data could
// name a field so, but none written in Python could, and no Python code could read it.
func keyword(name string) bool {
	switch name {
	case "False", "None", "True", "and", "as", "assert", "async", "await", "break", "class",
		"continue", "def", "del", "elif", "else", "except", "finally", "for", "from", "global",
		"if", "import", "in", "is", "lambda", "nonlocal", "not", "or", "pass", "raise",
		"return", "try", "while", "with", "yield":
		return true
	default:
		return false
	}
}

// fieldRefused returns why DSPy cannot take a field of that name, or "". Each case was
// measured on dspy 3.4.1 by running programs with that field through all three adapters;
// every other attribute of Signature, Prediction, Predict and pydantic's BaseModel works,
// because results are read by key.
func fieldRefused(f *Field) string {
	if reason := spellingRefused(f.Name); reason != "" {
		return reason
	}
	if strings.HasPrefix(f.Name, "_") {
		return "DSPy takes no names with a leading underscore"
	}
	switch f.Name {
	case "fields", "signature", "instructions", "input_fields", "output_fields":
		return "every DSPy signature has an attribute of that name"
	}
	if reason := modelRefused(f.Name); reason != "" {
		return reason
	}
	if f.Kind == Output {
		if f.Name == "model_json_schema" {
			return "DSPy's JSON adapter calls the method of that name"
		}
		return ""
	}
	switch f.Name {
	case "lm", "config", "demos", "new_signature":
		return "DSPy's Predict takes an argument of that name for itself"
	case "completions", "self":
		return "it collides with an argument inside DSPy's Predict"
	case "prediction":
		if s := f.Schema.resolve(&f.Schema); s.Type == typeObject || s.anything() || s.AnyOf != nil {
			return "DSPy's Predict takes it for an argument of the language model when its value looks like one"
		}
	}
	return ""
}

// propertyRefused returns why a property of a class cannot have that name, or "".
// Properties need not be identifiers.
func propertyRefused(name string) string {
	switch {
	case name == "":
		return "a name is empty"
	case strings.HasPrefix(name, "_"):
		return "pydantic takes no names with a leading underscore"
	case name == "Config":
		return "pydantic uses the name for a class's settings"
	}
	return modelRefused(name)
}

// modelRefused covers what no pydantic class can have as a field.
func modelRefused(name string) string {
	switch name {
	case "model_config":
		return "pydantic uses the name for a class's settings"
	case "model_dump", "model_dump_json", "model_validate", "model_validate_json", "model_validate_strings":
		return "pydantic protects the method of that name"
	default:
		return ""
	}
}

func spellingRefused(name string) string {
	switch {
	case name == "":
		return "a field needs a name"
	case !isIdentifier(name):
		return "a field's name is made of letters, digits and underscores and starts with a letter"
	case keyword(name):
		return "it is a keyword of Python"
	default:
		return ""
	}
}

// checkFields returns why module cannot run with these fields, or nil. A zero Module
// stands for any.
func checkFields(fields []Field, m Module) error {
	for i := range fields {
		if err := checkField(fields, i, m); err != nil {
			return err
		}
	}
	if !slices.ContainsFunc(fields, func(f Field) bool { return f.Kind == Output }) {
		return errors.New("there is no output field; declare at least one")
	}
	return nil
}

// checkField checks the field at i, also against those before it.
func checkField(fields []Field, i int, m Module) error {
	f := &fields[i]
	if f.Kind != Input && f.Kind != Output {
		return fmt.Errorf("the field %s is neither input nor output", quoted(f.Name))
	}
	if reason := fieldRefused(f); reason != "" {
		return fmt.Errorf("the %s field name %s cannot be used: %s; choose another name",
			f.Kind, quoted(f.Name), reason)
	}
	for _, r := range m.Reserved {
		if r.Name == f.Name && (r.Kind == 0 || r.Kind == f.Kind) {
			return fmt.Errorf("the %s field name %s cannot be used with %s: %s; choose another name",
				f.Kind, quoted(f.Name), m.Name, r.Reason)
		}
	}
	for _, g := range fields[:i] {
		switch {
		case g.Name != f.Name:
		case g.Kind != f.Kind:
			return fmt.Errorf("the field %s is an input and an output; give one of them another name",
				quoted(f.Name))
		default:
			return fmt.Errorf("the %s field %s is there twice; give one of them another name",
				f.Kind, quoted(f.Name))
		}
	}
	if err := f.check(); err != nil {
		return fmt.Errorf("the field %s: %w", f.Name, err)
	}
	return nil
}

func quoted(name string) string { return fmt.Sprintf("%q", oneLine(name)) }
