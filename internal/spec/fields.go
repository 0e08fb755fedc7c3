package spec

import (
	"encoding/json"
	"fmt"
	"reflect"

	"github.com/dspex/dspex/internal/status"
)

// FieldsOf returns the fields that a Go struct declares, in order. The json tag gives
// their names and leaves fields out as in encoding/json, the dspy tag describes them to
// the model, and embedded structs are flattened.
//
//	string                     str
//	bool, ints, floats         bool, int, float
//	[]byte                     bytes
//	time.Time                  datetime (microseconds; an offset is kept)
//	big.Int, json.Number       int, float
//	slices and arrays          list
//	maps with string keys      dict
//	structs                    a class with the struct's name
//	any, json.RawMessage       Any
//	pointers                   the type or None
//	`json:",omitempty"`        the type or None, absent when empty; also omitzero
//	`enum:"a,b,c"`             Literal, for strings and integers and containers of them
//	EnumValues() []T           Literal, for a named string or integer type T
//	MarshalText, UnmarshalText str
//	[Typer]                    what it says
//
// Anything else is refused with code invalid_program and the path of the Go field. Go
// cannot list the constants of a type, so an enum is declared by a tag or a method.
func FieldsOf(t reflect.Type, kind Kind) ([]Field, error) {
	_, fields, f := structFields(t, kind)
	if f != nil {
		return nil, status.New(status.InvalidProgram, opProgram, "%s type %v", kind, f)
	}
	return fields, nil
}

// structFields compiles the struct, or the struct that a pointer points to, and returns
// its members and the fields that they declare, one for one.
func structFields(t reflect.Type, kind Kind) ([]member, []Field, *fault) {
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := goName(t)
	if t.Kind() != reflect.Struct || speaks(t) {
		return nil, nil, faultf("%s is not a plain struct; declare one with a field for each %s, or use Values with a signature",
			name, kind)
	}
	if t.NumField() == 0 {
		return nil, nil, nil
	}
	c := compiler{structs: map[reflect.Type]*node{}}
	n, f := c.structure(t, "")
	if f != nil {
		return nil, nil, f.in(name)
	}
	fields := make([]Field, len(n.members))
	for i := range n.members {
		m := &n.members[i]
		schema := m.schema()
		fields[i] = Field{Name: m.name, Kind: kind, Schema: *schema, Desc: m.desc}
	}
	return n.members, fields, nil
}

// goName names a type in messages, without the path of its package.
func goName(t reflect.Type) string {
	if t.Name() == "" {
		return "struct"
	}
	return titleOf(t, "")
}

// schema returns the schema of a top-level field. Structs that are there more than once,
// or inside themselves, become definitions.
func (m *member) schema() *Schema {
	b := schemaBuilder{seen: map[*node]int{}, names: map[*node]string{}}
	b.count(m.node)
	s := b.nullable(m)
	s.Defs = b.defs
	return s
}

type schemaBuilder struct {
	seen  map[*node]int
	names map[*node]string
	defs  []Property
}

func (b *schemaBuilder) count(n *node) {
	if n.elem != nil {
		b.count(n.elem)
	}
	if n.shape != shapeStruct {
		return
	}
	b.seen[n]++
	if b.seen[n] == 1 {
		for i := range n.members {
			b.count(n.members[i].node)
		}
	}
}

func (b *schemaBuilder) nullable(m *member) *Schema {
	s := b.build(m.node)
	if m.optional() && (s.anything() || !s.nullable(&Schema{Defs: b.defs})) {
		s = &Schema{AnyOf: []*Schema{s, {Type: typeNull}}}
	}
	return s
}

func (b *schemaBuilder) build(n *node) *Schema {
	if n.enum != nil {
		s := &Schema{Enum: make([]json.RawMessage, len(n.enum))}
		for i, v := range n.enum {
			s.Enum[i] = json.RawMessage(v)
		}
		return s
	}
	switch n.shape {
	case shapeString, shapeText:
		return &Schema{Type: typeString}
	case shapeBool:
		return &Schema{Type: typeBoolean}
	case shapeInt, shapeUint, shapeBigInt:
		return &Schema{Type: typeInteger}
	case shapeFloat, shapeNumber:
		return &Schema{Type: typeNumber}
	case shapeBytes:
		return &Schema{Type: typeString, ContentEncoding: encodingBase64}
	case shapeTime:
		return &Schema{Type: typeString, Format: formatDateTime}
	case shapeCustom:
		copied := *n.schema
		return &copied
	case shapeSlice, shapeArray:
		return &Schema{Type: typeArray, Items: b.build(n.elem)}
	case shapeMap:
		return &Schema{Type: typeObject, Values: b.build(n.elem)}
	case shapePointer:
		s := b.build(n.elem)
		if s.nullable(&Schema{Defs: b.defs}) {
			return s
		}
		return &Schema{AnyOf: []*Schema{s, {Type: typeNull}}}
	case shapeStruct:
		return b.structure(n)
	default:
		return &Schema{}
	}
}

func (b *schemaBuilder) structure(n *node) *Schema {
	if b.seen[n] == 1 {
		return b.object(n)
	}
	name, known := b.names[n]
	if !known {
		name = b.free(n.title)
		b.names[n] = name
		at := len(b.defs)
		b.defs = append(b.defs, Property{Name: name, Schema: &Schema{Type: typeObject}})
		b.defs[at].Schema = b.object(n)
	}
	return &Schema{Ref: refPrefix + name}
}

func (b *schemaBuilder) object(n *node) *Schema {
	s := &Schema{
		Type: typeObject, Title: n.title,
		Properties: make([]Property, len(n.members)), Required: []string{},
	}
	for i := range n.members {
		m := &n.members[i]
		p := b.nullable(m)
		p.Description = m.desc
		s.Properties[i] = Property{m.name, p}
		if !m.optional() {
			s.Required = append(s.Required, m.name)
		}
	}
	return s
}

// free returns a name for a definition that no other has: two packages may each have a
// type Item.
func (b *schemaBuilder) free(title string) string {
	name := title
	for i := 2; ; i++ {
		taken := false
		for _, d := range b.defs {
			taken = taken || d.Name == name
		}
		if !taken {
			return name
		}
		name = fmt.Sprintf("%s%d", title, i)
	}
}
