package spec

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
)

// side is one side of a program, its inputs or its outputs, with the way its values are
// read and written: by a Go struct when members is not nil, else by schema.
type side struct {
	kind    Kind
	name    string // what messages call a value of it
	goType  reflect.Type
	fields  []Field
	members []member // one for each field, or nil
}

func newSide(t reflect.Type, kind Kind, s *Signature) (side, *fault) {
	d := side{kind: kind, goType: t}
	if t == nil {
		return d, faultf("the %s type is missing", kind)
	}
	if t.Kind() == reflect.Map && t.Key().Kind() == reflect.String && t.Elem() == reflect.TypeFor[any]() {
		if s == nil {
			return d, faultf("%ss are values by name, but there is no signature that names them; give one with WithSignature", kind)
		}
		d.fields = s.of(kind)
		return d, nil
	}
	members, fields, f := structFields(t, kind)
	if f != nil {
		return d, f
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	d.name = goName(t)
	d.members, d.fields = members, fields
	if members == nil {
		d.members = []member{}
	}
	if s == nil {
		return d, nil
	}
	return d.agreeing(s.of(kind))
}

// agreeing returns the struct's side in the order of the signature's fields, which must
// be the same fields.
func (d side) agreeing(declared []Field) (side, *fault) {
	names := make([]string, len(declared))
	members := make([]member, len(declared))
	for i, want := range declared {
		names[i] = want.Name
		at := d.index(want.Name)
		if at < 0 {
			return d, faultf("the signature has the %s %q, but the struct does not; add a field with `json:%q`",
				d.kind, want.Name, want.Name).in(d.name)
		}
		if got := d.fields[at].Type(); got != want.Type() {
			return d, faultf("the struct says %s, the signature says %s", got, want.Type()).
				in(d.members[at].goName).in(d.name)
		}
		members[i] = d.members[at]
	}
	for i := range d.fields {
		if f := missingIn(names, d.fields[i].Name); f != nil {
			return d, f.in(d.members[i].goName).in(d.name)
		}
	}
	d.fields, d.members = declared, members
	return d, nil
}

func missingIn(names []string, name string) *fault {
	if slices.Contains(names, name) {
		return nil
	}
	return unknownName("the signature has no field", name, "fields", names)
}

func (d *side) index(name string) int {
	for i := range d.fields {
		if d.fields[i].Name == name {
			return i
		}
	}
	return -1
}

func (d *side) names() []string {
	names := make([]string, len(d.fields))
	for i := range d.fields {
		names[i] = d.fields[i].Name
	}
	return names
}

// Encode writes the program's inputs: in is a value of the In type that the program was
// built with, a pointer to one, or for programs built from a Signature a map by name. It
// returns a JSON object and the bytes that the object refers to by {"$attachment": i}.
// The bytes are those of in, not copies: they must not change while the call runs.
//
// A zero value is a value: only nil pointers and empty fields marked omitempty or
// omitzero are left out. Nil slices and maps are empty ones. A time is cut to
// microseconds. Numbers keep their value, whole numbers of any size too; NaN and
// infinities are errors, as are strings that are not UTF-8, missing, unknown and unfitting
// inputs. The error has code invalid_argument and names the field.
func (c *Compiled) Encode(in any) (json.RawMessage, [][]byte, error) {
	var e encoder
	if f := c.in.encode(&e, reflect.ValueOf(in)); f != nil {
		return nil, nil, status.New(status.InvalidArgument, opRun, "input %v", f)
	}
	return e.buf, e.attachments, nil
}

func (d *side) encode(e *encoder, v reflect.Value) *fault {
	for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
		v = v.Elem()
	}
	if d.members == nil {
		return d.encodeMap(e, v)
	}
	want := d.goType
	if want.Kind() == reflect.Pointer {
		want = want.Elem()
	}
	if !v.IsValid() || v.Type() != want {
		return unfit("nil or of another type", "a "+want.String()).in(d.name)
	}
	e.buf = append(e.buf, '{')
	first := true
	for i := range d.members {
		m := &d.members[i]
		value, there := m.value(v)
		if !there {
			continue
		}
		e.key(d.fields[i].Name, &first)
		if f := e.typed(m.node, value); f != nil {
			return f.in(m.goName).in(d.name)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

func (d *side) encodeMap(e *encoder, v reflect.Value) *fault {
	if v.IsValid() && v.Kind() != reflect.Map {
		return unfit("a Go "+v.Type().String(), "a map of inputs by name").in("values")
	}
	given := map[string]reflect.Value{}
	if v.IsValid() {
		for it := v.MapRange(); it.Next(); {
			given[it.Key().String()] = it.Value()
		}
	}
	if f := d.unknown(given); f != nil {
		return f
	}
	e.buf = append(e.buf, '{')
	first := true
	for i := range d.fields {
		field := &d.fields[i]
		value, there := given[field.Name]
		switch {
		case !there && field.Optional():
			continue
		case !there:
			return faultf("%s (%s) is missing", field.Name, field.Type())
		case isNil(value) && field.noneable():
			continue // as a nil pointer: absent
		}
		e.key(field.Name, &first)
		if f := e.bySchema(&field.Schema, &field.Schema, value); f != nil {
			return f.in(field.Name)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

// unknown returns a fault for the first name, in order, that is no field.
func (d *side) unknown(given map[string]reflect.Value) *fault {
	worst := ""
	for name := range given {
		if d.index(name) < 0 && (worst == "" || name < worst) {
			worst = name
		}
	}
	if worst == "" {
		return nil
	}
	names := d.names()
	if near, ok := nearest.Nearest(worst, names); ok {
		return faultf("%s does not exist; did you mean %q?", quoted(worst), near)
	}
	if len(names) == 0 {
		return faultf("%s does not exist; the program takes none", quoted(worst))
	}
	return faultf("%s does not exist; the %ss are %s", quoted(worst), d.kind, strings.Join(names, ", "))
}

// Decode reads the outputs that a worker produced into out, a pointer to the Out type
// that the program was built with, and returns the reasoning if the module gave one.
// Attachments become the bytes fields of out, without being copied.
//
// Outputs in a map are strings, bools, int64 (uint64 where only that fits), float64,
// time.Time for datetime, text for date, []byte, []any, map[string]any and nil; numbers
// in a field of any type likewise, and json.Number beyond 64 bits.
//
// A missing output, null for a field that cannot be nil and a value of another type are
// errors with code invalid_output, which name the Go field. When the error is not nil,
// out may have been written in part.
func (c *Compiled) Decode(outputs json.RawMessage, attachments [][]byte, out any) (reasoning string, err error) {
	tree, err := readTree(outputs)
	object, ok := tree.(map[string]any)
	if err != nil || !ok {
		return "", status.New(status.Internal, opRun, "the worker's outputs cannot be read: %v",
			orMessage(err, "they are no object"))
	}
	d := decoder{attachments: attachments}
	if f := c.out.decode(&d, object, reflect.ValueOf(out)); f != nil {
		return "", status.New(status.InvalidOutput, opRun, "output %v", f)
	}
	for _, extra := range c.Module.Extra {
		if text, ok := object[extra.Name].(string); ok && extra.Name == "reasoning" {
			reasoning = text
		}
	}
	return reasoning, nil
}

func orMessage(err error, message string) error {
	if err == nil {
		return fmt.Errorf("%s", message)
	}
	return err
}

func (d *side) decode(r *decoder, object map[string]any, out reflect.Value) *fault {
	want := d.goType
	if out.Kind() != reflect.Pointer || out.IsNil() || out.Type().Elem() != want {
		return faultf("there is nowhere to put it; give a pointer to %s", want)
	}
	v := out.Elem()
	if d.members == nil {
		values := reflect.MakeMapWithSize(want, len(d.fields))
		for i := range d.fields {
			f := &d.fields[i]
			part, there := object[f.Name]
			if !there && !f.Optional() {
				return faultf("it is missing").in(f.Name)
			}
			value, fault := r.bySchema(&f.Schema, &f.Schema, part)
			if fault != nil {
				return fault.in(f.Name)
			}
			held := reflect.New(reflect.TypeFor[any]()).Elem()
			setAny(held, value)
			values.SetMapIndex(reflect.ValueOf(f.Name).Convert(want.Key()), held)
		}
		v.Set(values)
		return nil
	}
	if want.Kind() == reflect.Pointer {
		v.Set(reflect.New(want.Elem()))
		v = v.Elem()
	}
	for i := range d.members {
		if f := r.member(&d.members[i], object, v); f != nil {
			return f.in(d.name)
		}
	}
	return nil
}

// Demo writes a demonstration: values of inputs and outputs by name, in one or more maps
// or structs. Fields may be left out. The error has code invalid_argument.
func (c *Compiled) Demo(parts ...any) (json.RawMessage, error) {
	text, f := c.demo(parts...)
	if f != nil {
		return nil, status.New(status.InvalidArgument, opRun, "demo %v", f)
	}
	return text, nil
}

func (c *Compiled) demo(parts ...any) (json.RawMessage, *fault) {
	given := map[string]reflect.Value{}
	for _, part := range parts {
		v := reflect.ValueOf(part)
		for v.IsValid() && (v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface) {
			v = v.Elem()
		}
		if !v.IsValid() {
			continue
		}
		values, f := partsOf(v, "a map or a struct of fields by name")
		if f != nil {
			return nil, f
		}
		maps.Copy(given, values)
	}
	all := side{kind: Output, fields: append(append([]Field(nil), c.Module.Extra...), c.Program.Signature.Fields...)}
	if f := all.unknown(given); f != nil {
		return nil, f
	}
	e := encoder{inline: true}
	e.buf = append(e.buf, '{')
	first := true
	for i := range all.fields {
		field := &all.fields[i]
		value, there := given[field.Name]
		if !there {
			continue
		}
		e.key(field.Name, &first)
		if f := e.bySchema(&field.Schema, &field.Schema, value); f != nil {
			return nil, f.in(field.Name)
		}
	}
	return append(e.buf, '}'), nil
}

// ParseValue reads a value of the field's type from text, as it is typed on a command
// line: text fields take it as it is, others read it as JSON, and fields that allow both
// take what is not JSON as text. The error has code invalid_argument.
func (f *Field) ParseValue(text string) (any, error) {
	wantsText := f.Schema.takesText(&f.Schema)
	tree, err := readTree([]byte(text))
	if err != nil || wantsText && f.Schema.textOnly(&f.Schema) {
		if wantsText {
			return text, nil
		}
		return nil, status.New(status.InvalidArgument, opRun, "input %s: %s is not of type %s; write it as JSON",
			f.Name, quoted(text), f.Type())
	}
	return tree, nil
}

// takesText reports whether some string fits the schema.
func (s *Schema) takesText(root *Schema) bool {
	s = s.resolve(root)
	switch {
	case s.AnyOf != nil:
		for _, one := range s.AnyOf {
			if one.takesText(root) {
				return true
			}
		}
		return false
	case s.Enum != nil:
		for _, v := range s.Enum {
			if v[0] == '"' {
				return true
			}
		}
		return false
	default:
		return s.anything() || s.Type == typeString && s.ContentEncoding == ""
	}
}

// textOnly reports whether everything that fits the schema is a string, or null.
func (s *Schema) textOnly(root *Schema) bool {
	s = s.resolve(root)
	switch {
	case s.AnyOf != nil:
		for _, one := range s.AnyOf {
			if one.Type != typeNull && !one.textOnly(root) {
				return false
			}
		}
		return true
	case s.Enum != nil:
		for _, v := range s.Enum {
			if v[0] != '"' && string(v) != "null" {
				return false
			}
		}
		return true
	default:
		return s.Type == typeString
	}
}
