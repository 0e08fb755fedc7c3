package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"
)

// Schema is the JSON Schema of a value: the part of JSON Schema that DSPy's types need.
// The zero Schema allows any JSON value. A Schema is written as JSON in a fixed order, so
// that equal schemas have equal text, and properties keep their order, which is the order
// in which a prompt shows them.
//
// What is said about one kind of value is in one field:
//
//	Type "string"                      text
//	Type "string", Format "date-time"  a point in time
//	Type "string", Format "date"       a day
//	Type "string", ContentEncoding     bytes, which travel as an attachment
//	Type "integer" "number" "boolean"  scalars
//	Type "null"                        null, inside AnyOf
//	Type "array"                       a list of Items
//	Type "object", Properties          a class named Title
//	Type "object", Values              a dictionary with text keys
//	Enum                               one of these JSON values
//	AnyOf                              any of these schemas
//	Ref                                "#/$defs/NAME", an entry of the root's Defs
type Schema struct {
	Ref             string
	Type            string
	Format          string
	ContentEncoding string
	Title           string
	Description     string
	Enum            []json.RawMessage
	AnyOf           []*Schema
	Items           *Schema
	Properties      []Property
	Required        []string
	Values          *Schema
	Defs            []Property
}

// Property is a named part of an object's schema, or a named definition.
type Property struct {
	Name   string
	Schema *Schema
}

// The types of JSON Schema.
const (
	typeString  = "string"
	typeInteger = "integer"
	typeNumber  = "number"
	typeBoolean = "boolean"
	typeNull    = "null"
	typeArray   = "array"
	typeObject  = "object"

	formatDateTime = "date-time"
	formatDate     = "date"
	encodingBase64 = "base64"

	refPrefix = "#/$defs/"
)

const (
	// maxDepth bounds how deeply types are nested: workers build types of up to 64 levels.
	maxDepth = 48
	// maxNesting bounds how deeply values are nested: the JSON writer of the workers
	// stops at 254 levels, some of which the message around the value needs.
	maxNesting = 200
)

// MarshalJSON writes the schema in a fixed order.
func (s Schema) MarshalJSON() ([]byte, error) {
	return s.append(nil), nil
}

func (s *Schema) append(b []byte) []byte {
	first := true
	key := func(name string) {
		if first {
			b = append(b, '{')
			first = false
		} else {
			b = append(b, ',')
		}
		b = appendString(b, name)
		b = append(b, ':')
	}
	text := func(name, value string) {
		if value != "" {
			key(name)
			b = appendString(b, value)
		}
	}
	named := func(properties []Property) {
		b = append(b, '{')
		for i, p := range properties {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, p.Name)
			b = append(b, ':')
			b = p.Schema.append(b)
		}
		b = append(b, '}')
	}
	text("$ref", s.Ref)
	text("type", s.Type)
	text("format", s.Format)
	text("contentEncoding", s.ContentEncoding)
	text("title", s.Title)
	text("description", s.Description)
	if s.Enum != nil {
		key("enum")
		b = append(b, '[')
		b = append(b, bytes.Join(rawSlices(s.Enum), []byte{','})...)
		b = append(b, ']')
	}
	if s.AnyOf != nil {
		key("anyOf")
		b = append(b, '[')
		for i, one := range s.AnyOf {
			if i > 0 {
				b = append(b, ',')
			}
			b = one.append(b)
		}
		b = append(b, ']')
	}
	if s.Items != nil {
		key("items")
		b = s.Items.append(b)
	}
	if s.Properties != nil {
		key("properties")
		named(s.Properties)
		key("required")
		b = append(b, '[')
		for i, name := range s.Required {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, name)
		}
		b = append(b, ']')
		key("additionalProperties")
		b = append(b, "false"...)
	}
	if s.Values != nil {
		key("additionalProperties")
		b = s.Values.append(b)
	}
	if len(s.Defs) > 0 {
		key("$defs")
		named(s.Defs)
	}
	if first {
		b = append(b, '{')
	}
	return append(b, '}')
}

func rawSlices(raw []json.RawMessage) [][]byte {
	out := make([][]byte, len(raw))
	for i, r := range raw {
		out[i] = r
	}
	return out
}

// property returns the schema of the named property, or nil.
func (s *Schema) property(name string) *Schema {
	for _, p := range s.Properties {
		if p.Name == name {
			return p.Schema
		}
	}
	return nil
}

func (s *Schema) required(name string) bool { return slices.Contains(s.Required, name) }

// resolve follows a reference into the root's definitions. A chain of references that
// never arrives is refused by check.
func (s *Schema) resolve(root *Schema) *Schema {
	for s.Ref != "" {
		next := root.definition(s.Ref)
		if next == nil {
			return s
		}
		s = next
	}
	return s
}

func (s *Schema) definition(ref string) *Schema {
	name := strings.TrimPrefix(ref, refPrefix)
	for _, d := range s.Defs {
		if d.Name == name {
			return d.Schema
		}
	}
	return nil
}

// nullable reports whether null fits the schema.
func (s *Schema) nullable(root *Schema) bool {
	s = s.resolve(root)
	switch {
	case s.AnyOf != nil:
		return slices.ContainsFunc(s.AnyOf, func(one *Schema) bool { return one.nullable(root) })
	case s.Enum != nil:
		return slices.ContainsFunc(s.Enum, func(v json.RawMessage) bool { return string(v) == "null" })
	default:
		return s.Type == typeNull || s.anything()
	}
}

// anything reports whether the schema allows every value.
func (s *Schema) anything() bool {
	return s.Ref == "" && s.Type == "" && s.Enum == nil && s.AnyOf == nil
}

func (s *Schema) isBytes() bool { return s.Type == typeString && s.ContentEncoding != "" }

// check returns why the schema is not one that DSPy's types can express, or nil.
func (s *Schema) check() error {
	for _, d := range s.Defs {
		if !isIdentifier(d.Name) {
			return fmt.Errorf("the definition %q needs a name of letters, digits and underscores", d.Name)
		}
		if d.Schema == nil {
			return fmt.Errorf("the definition %q is empty", d.Name)
		}
		if err := d.Schema.checkPart(s, 0); err != nil {
			return fmt.Errorf("definition %s: %w", d.Name, err)
		}
	}
	return s.checkPart(s, 0)
}

func (s *Schema) checkPart(root *Schema, depth int) error {
	if depth > maxDepth {
		return fmt.Errorf("the type is nested more than %d deep", maxDepth)
	}
	if s != root && len(s.Defs) > 0 {
		return errors.New("$defs belong to the root of a field's schema")
	}
	if !utf8.ValidString(s.Description) {
		return errors.New("the description is not valid UTF-8")
	}
	kinds := 0
	for _, is := range []bool{s.Ref != "", s.Type != "", s.Enum != nil, s.AnyOf != nil} {
		if is {
			kinds++
		}
	}
	if kinds > 1 {
		return errors.New("a schema has one of $ref, type, enum and anyOf, not several")
	}
	switch {
	case s.Ref != "":
		return s.checkRef(root)
	case s.Enum != nil:
		return checkEnum(s.Enum)
	case s.AnyOf != nil:
		if len(s.AnyOf) == 0 {
			return errors.New("anyOf needs at least one schema")
		}
		for _, one := range s.AnyOf {
			if err := one.checkPart(root, depth+1); err != nil {
				return err
			}
		}
		return nil
	}
	switch s.Type {
	case "", typeInteger, typeNumber, typeBoolean, typeNull:
		return nil
	case typeString:
		switch {
		case s.ContentEncoding != "" && s.ContentEncoding != encodingBase64:
			return fmt.Errorf("contentEncoding %q is not supported; use %q", s.ContentEncoding, encodingBase64)
		case s.Format != "" && s.Format != formatDateTime && s.Format != formatDate:
			return fmt.Errorf("format %q is not supported; use %q or %q", s.Format, formatDateTime, formatDate)
		case s.Format != "" && s.ContentEncoding != "":
			return errors.New("a string has a format or a contentEncoding, not both")
		}
		return nil
	case typeArray:
		if s.Items == nil {
			return nil
		}
		return s.Items.checkPart(root, depth+1)
	case typeObject:
		return s.checkObject(root, depth)
	default:
		return fmt.Errorf("type %q is not one of JSON Schema's", s.Type)
	}
}

func (s *Schema) checkRef(root *Schema) error {
	seen := 0
	for at := s; at.Ref != ""; seen++ {
		next := root.definition(at.Ref)
		if !strings.HasPrefix(at.Ref, refPrefix) || next == nil {
			return fmt.Errorf("$ref %q leads nowhere; it must name an entry of $defs", at.Ref)
		}
		if seen > len(root.Defs) {
			return fmt.Errorf("$ref %q leads back to itself", s.Ref)
		}
		at = next
	}
	return nil
}

func checkEnum(values []json.RawMessage) error {
	if len(values) == 0 {
		return errors.New("an enum needs at least one value")
	}
	seen := make(map[string]bool, len(values))
	for _, v := range values {
		switch {
		case !json.Valid(v):
			return fmt.Errorf("the enum value %s is not JSON", v)
		case v[0] == '"' || string(v) == "true" || string(v) == "false" || string(v) == "null":
		case fitsWire(string(v), false) == nil && !strings.ContainsAny(string(v), ".eE"):
		default:
			return fmt.Errorf("the enum value %s is not a string, a whole number, true, false or null", v)
		}
		if seen[string(v)] {
			return fmt.Errorf("the enum value %s is there twice", v)
		}
		seen[string(v)] = true
	}
	return nil
}

func (s *Schema) checkObject(root *Schema, depth int) error {
	if s.Values != nil && s.Properties != nil {
		return errors.New("an object has properties or additionalProperties, not both")
	}
	if s.Values != nil {
		return s.Values.checkPart(root, depth+1)
	}
	if s.Title != "" && !isIdentifier(s.Title) {
		return fmt.Errorf("the title %q is not a name of letters, digits and underscores", s.Title)
	}
	seen := make(map[string]bool, len(s.Properties))
	for _, p := range s.Properties {
		if reason := propertyRefused(p.Name); reason != "" {
			return fmt.Errorf("the property %q: %s", p.Name, reason)
		}
		if seen[p.Name] {
			return fmt.Errorf("the property %q is there twice", p.Name)
		}
		seen[p.Name] = true
		if p.Schema == nil {
			return fmt.Errorf("the property %q has no schema", p.Name)
		}
		if err := p.Schema.checkPart(root, depth+1); err != nil {
			return fmt.Errorf("property %s: %w", p.Name, err)
		}
	}
	for _, name := range s.Required {
		if s.property(name) == nil {
			return fmt.Errorf("the required property %q does not exist", name)
		}
	}
	return nil
}
