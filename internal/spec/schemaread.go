package spec

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
)

// schemaJSON is a Schema as it is read; the order of properties is recovered separately.
type schemaJSON struct {
	Ref                  string            `json:"$ref"`
	Type                 string            `json:"type"`
	Format               string            `json:"format"`
	ContentEncoding      string            `json:"contentEncoding"` //nolint:tagliatelle // JSON Schema's name
	Title                string            `json:"title"`
	Description          string            `json:"description"`
	Enum                 []json.RawMessage `json:"enum"`
	AnyOf                []*Schema         `json:"anyOf"` //nolint:tagliatelle // JSON Schema's name
	Items                *Schema           `json:"items"`
	Properties           properties        `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties json.RawMessage   `json:"additionalProperties"` //nolint:tagliatelle // JSON Schema's name
	Defs                 properties        `json:"$defs"`
}

// UnmarshalJSON reads a schema and refuses keywords outside the supported part of JSON
// Schema, so that a constraint is never ignored silently.
func (s *Schema) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	var in schemaJSON
	if err := d.Decode(&in); err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	out := Schema{
		Ref: in.Ref, Type: in.Type, Format: in.Format, ContentEncoding: in.ContentEncoding,
		Title: in.Title, Description: in.Description, AnyOf: in.AnyOf, Items: in.Items,
		Properties: in.Properties, Required: in.Required, Defs: in.Defs,
	}
	if in.Enum != nil {
		out.Enum = make([]json.RawMessage, len(in.Enum))
		for i, v := range in.Enum {
			literal, err := canonicalLiteral(v)
			if err != nil {
				return err
			}
			out.Enum[i] = literal
		}
	}
	switch more := string(bytes.TrimSpace(in.AdditionalProperties)); {
	case more == "" || more == "false":
	case more == "true":
		if in.Properties == nil {
			out.Values = &Schema{}
			break
		}
		fallthrough
	case in.Properties != nil:
		return errors.New("schema: an object with properties takes no additionalProperties")
	default:
		out.Values = new(Schema)
		if err := json.Unmarshal(in.AdditionalProperties, out.Values); err != nil {
			return err
		}
	}
	if out.Type == typeObject && out.Properties == nil && out.Values == nil {
		out.Values = &Schema{}
	}
	*s = out
	return nil
}

// canonicalLiteral rewrites a JSON scalar as appendString and Go's integers write it, so
// that equal values have equal text.
func canonicalLiteral(v json.RawMessage) (json.RawMessage, error) {
	v = bytes.TrimSpace(v)
	if len(v) == 0 || v[0] != '"' {
		return bytes.Clone(v), nil
	}
	var s string
	if err := json.Unmarshal(v, &s); err != nil {
		return nil, fmt.Errorf("schema: %w", err)
	}
	return appendString(nil, s), nil
}

// properties keeps the order of a JSON object's members.
type properties []Property

func (p *properties) UnmarshalJSON(data []byte) error {
	d := json.NewDecoder(bytes.NewReader(data))
	start, err := d.Token()
	if err != nil {
		return fmt.Errorf("schema: %w", err)
	}
	if start == nil {
		return nil
	}
	if start != json.Delim('{') {
		return errors.New("schema: properties and $defs are objects")
	}
	out := properties{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return fmt.Errorf("schema: %w", err)
		}
		name, _ := key.(string)
		part := new(Schema)
		if err := d.Decode(part); err != nil {
			return err
		}
		out = append(out, Property{name, part})
	}
	*p = out
	return nil
}
