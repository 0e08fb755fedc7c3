package spec

import (
	"encoding"
	"encoding/json"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// shape says how values of a Go type are read and written.
type shape uint8

const (
	shapeString shape = iota + 1
	shapeBool
	shapeInt
	shapeUint
	shapeFloat
	shapeBytes  // a slice of bytes: an attachment
	shapeTime   // time.Time
	shapeBigInt // big.Int
	shapeNumber // json.Number
	shapeRaw    // json.RawMessage
	shapeAny    // an empty interface
	shapeText   // encoding.TextMarshaler and TextUnmarshaler: a string
	shapeCustom // Typer: its own JSON
	shapeStruct
	shapeSlice
	shapeArray
	shapeMap
	shapePointer
)

// node is a Go type, compiled once per program. It is immutable once compiled; a struct
// that contains itself is a cycle of nodes.
type node struct {
	shape  shape
	goType reflect.Type
	// elem is what a slice, an array, a map or a pointer holds.
	elem *node
	// members are the fields of a struct that JSON shows.
	members []member
	// title is the name of a struct in Python.
	title string
	// enum holds the JSON text of the values allowed, when they are declared.
	enum []string
	// schema is what a Typer says it is.
	schema *Schema
}

// member is a field of a struct that JSON shows.
type member struct {
	name      string // its name in JSON
	goName    string
	desc      string
	index     []int // where it is, as in reflect.Value.FieldByIndex
	node      *node
	omitEmpty bool
	omitZero  bool
	// embedded is true when it is reached through an embedded pointer, which may be nil.
	embedded bool
}

// optional reports whether the member can be absent.
func (m *member) optional() bool {
	return m.omitEmpty || m.omitZero || m.embedded || m.node.shape == shapePointer
}

// Typer is implemented by types that write and read their own JSON, through
// json.Marshaler and json.Unmarshaler. DSPyType returns the type that DSPy sees, in the
// notation of [ParseSignature], such as "list[float]". It is called on a zero value.
type Typer interface{ DSPyType() string }

// compiler makes nodes.
type compiler struct {
	structs map[reflect.Type]*node
	depth   int
}

func (c *compiler) compile(t reflect.Type, hint string) (*node, *fault) {
	c.depth++
	defer func() { c.depth-- }()
	if c.depth > maxDepth {
		return nil, faultf("the type is nested more than %d deep", maxDepth)
	}
	switch t {
	case reflect.TypeFor[time.Time]():
		return &node{shape: shapeTime, goType: t}, nil
	case reflect.TypeFor[big.Int]():
		return &node{shape: shapeBigInt, goType: t}, nil
	case reflect.TypeFor[json.Number]():
		return &node{shape: shapeNumber, goType: t}, nil
	case reflect.TypeFor[json.RawMessage]():
		return &node{shape: shapeRaw, goType: t}, nil
	}
	if t.Kind() != reflect.Interface && t.Kind() != reflect.Pointer {
		n, f := c.self(t)
		if n != nil || f != nil {
			return n, f
		}
	}
	return c.kind(t, hint)
}

// self handles types that say themselves how they are written. It returns nil for others.
func (c *compiler) self(t reflect.Type) (*node, *fault) {
	if implements[Typer](t) {
		return customNode(t)
	}
	text := implements[encoding.TextMarshaler](t)
	switch {
	case implements[json.Marshaler](t) || implements[json.Unmarshaler](t):
		return nil, faultf("%s writes or reads its own JSON, so its type is not known; "+
			"give it a method DSPyType() string that returns it, such as \"list[str]\"", t)
	case text != implements[encoding.TextUnmarshaler](t):
		return nil, faultf("%s has only one of MarshalText and UnmarshalText; give it both", t)
	}
	var n *node
	if text {
		n = &node{shape: shapeText, goType: t}
	}
	method, ok := t.MethodByName("EnumValues")
	if !ok {
		return n, nil
	}
	if n == nil {
		var f *fault
		if n, f = c.kind(t, ""); f != nil {
			return nil, f
		}
	}
	return n.declared(t, method)
}

func implements[I any](t reflect.Type) bool {
	i := reflect.TypeFor[I]()
	return t.Implements(i) || reflect.PointerTo(t).Implements(i)
}

func customNode(t reflect.Type) (*node, *fault) {
	typer, _ := reflect.TypeAssert[Typer](reflect.New(t))
	var text string
	if f := guarded(t, "DSPyType", func() { text = typer.DSPyType() }); f != nil {
		return nil, f
	}
	p := parser{scanner: scanner{rest: text, at: 1}}
	err := p.advance()
	var s *Schema
	if err == nil {
		s, err = p.union(t.Name(), 0)
	}
	if err == nil && p.token.kind != tokenEnd {
		err = syntax(p.token.at, "expected the end, found %v", p.token)
	}
	if err != nil {
		return nil, faultf("%s.DSPyType returned %q, which is no type: %v", t, oneLine(text), err)
	}
	if holdsBytes(s) {
		return nil, faultf("%s.DSPyType returned %q, but bytes need the Go type []byte", t, oneLine(text))
	}
	return &node{shape: shapeCustom, goType: t, schema: s}, nil
}

func holdsBytes(s *Schema) bool {
	if s.isBytes() || s.Items != nil && holdsBytes(s.Items) || s.Values != nil && holdsBytes(s.Values) {
		return true
	}
	return slices.ContainsFunc(s.AnyOf, holdsBytes)
}

// guarded runs a method of the user's on a zero value. A panic in it becomes a fault,
// because declaring a program never panics.
func guarded(t reflect.Type, method string, run func()) (f *fault) {
	defer func() {
		if r := recover(); r != nil {
			f = faultf("%s.%s panics on a zero value: %v", t, method, r)
		}
	}()
	run()
	return nil
}

// declared returns the node limited to what the type's EnumValues method returns.
func (n *node) declared(t reflect.Type, method reflect.Method) (*node, *fault) {
	m := method.Type
	if m.NumIn() != 1 || m.NumOut() != 1 || m.Out(0) != reflect.SliceOf(t) {
		return nil, faultf("%s.EnumValues must have the form EnumValues() []%s", t, t.Name())
	}
	var values reflect.Value
	f := guarded(t, "EnumValues", func() { values = method.Func.Call([]reflect.Value{reflect.Zero(t)})[0] })
	if f != nil {
		return nil, f
	}
	literals := make([]string, values.Len())
	for i := range literals {
		e := encoder{}
		if f := e.typed(n, values.Index(i)); f != nil {
			return nil, faultf("%s.EnumValues()[%d]: %v", t, i, f)
		}
		literals[i] = string(e.buf)
	}
	return n.limited(literals)
}

// limited returns a copy of the node that allows only these values. For a container the
// values are those of its elements.
func (n *node) limited(literals []string) (*node, *fault) {
	copied := *n
	switch n.shape {
	case shapeString, shapeInt, shapeUint, shapeText:
		if len(literals) == 0 {
			return nil, faultf("%s declares no values; an enum needs at least one", n.goType)
		}
		copied.enum = literals
		return &copied, nil
	case shapeSlice, shapeArray, shapeMap, shapePointer:
		elem, f := n.elem.limited(literals)
		if f != nil {
			return nil, f
		}
		copied.elem = elem
		return &copied, nil
	default:
		return nil, faultf("%s cannot be an enum; strings and integers can", n.goType)
	}
}

// tagged limits a node to the values of an enum tag: "a,b,c".
func (n *node) tagged(tag string) (*node, *fault) {
	leaf := n
	for leaf.elem != nil {
		leaf = leaf.elem
	}
	var literals []string
	for part := range strings.SplitSeq(tag, ",") {
		part = strings.TrimSpace(part)
		switch leaf.shape {
		case shapeInt:
			i, err := strconv.ParseInt(part, 10, leaf.goType.Bits())
			if err != nil {
				return nil, faultf("the enum value %q is not an %s", part, leaf.goType)
			}
			literals = append(literals, strconv.FormatInt(i, 10))
		case shapeUint:
			u, err := strconv.ParseUint(part, 10, leaf.goType.Bits())
			if err != nil {
				return nil, faultf("the enum value %q is not an %s", part, leaf.goType)
			}
			literals = append(literals, strconv.FormatUint(u, 10))
		default:
			if !utf8.ValidString(part) || part == "" {
				return nil, faultf("the enum tag %q has an empty value; write enum:\"a,b,c\"", tag)
			}
			literals = append(literals, string(appendString(nil, part)))
		}
	}
	return n.limited(literals)
}

// kind compiles by the kind of the type alone.
func (c *compiler) kind(t reflect.Type, hint string) (*node, *fault) {
	leaf := func(s shape) (*node, *fault) { return &node{shape: s, goType: t}, nil }
	holding := func(s shape) (*node, *fault) {
		elem, f := c.compile(t.Elem(), hint)
		if f != nil {
			return nil, f
		}
		return &node{shape: s, goType: t, elem: elem}, nil
	}
	switch t.Kind() {
	case reflect.String:
		return leaf(shapeString)
	case reflect.Bool:
		return leaf(shapeBool)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return leaf(shapeInt)
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Uintptr:
		return leaf(shapeUint)
	case reflect.Float32, reflect.Float64:
		return leaf(shapeFloat)
	case reflect.Interface:
		if t.NumMethod() == 0 {
			return leaf(shapeAny)
		}
		return nil, faultf("the interface %s could hold anything; use a struct, any or json.RawMessage", t)
	case reflect.Pointer:
		n, f := holding(shapePointer)
		if f == nil && n.elem.shape == shapePointer {
			return nil, faultf("%s points to a pointer; use one pointer", t)
		}
		return n, f
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 && !speaks(t.Elem()) {
			return leaf(shapeBytes)
		}
		return holding(shapeSlice)
	case reflect.Array:
		return holding(shapeArray)
	case reflect.Map:
		if t.Key().Kind() != reflect.String || speaks(t.Key()) {
			return nil, faultf("the keys of %s are not plain strings; use map[string]%s", t, t.Elem())
		}
		return holding(shapeMap)
	case reflect.Struct:
		return c.structure(t, hint)
	case reflect.Func, reflect.Chan, reflect.UnsafePointer:
		return nil, faultf("%s is no data; remove the field or hide it with `json:\"-\"`", t)
	case reflect.Complex64, reflect.Complex128:
		return nil, faultf("%s has no JSON form; use two floats", t)
	default:
		return nil, faultf("%s is not supported", t)
	}
}

// speaks reports whether a type has a JSON form of its own.
func speaks(t reflect.Type) bool {
	return implements[json.Marshaler](t) || implements[encoding.TextMarshaler](t) || implements[Typer](t)
}

func (c *compiler) structure(t reflect.Type, hint string) (*node, *fault) {
	if n := c.structs[t]; n != nil {
		return n, nil
	}
	n := &node{shape: shapeStruct, goType: t, title: titleOf(t, hint)}
	c.structs[t] = n
	members, f := c.members(t)
	if f != nil {
		return nil, f
	}
	if len(members) == 0 {
		return nil, faultf("%s has no exported fields; export one or hide the field with `json:\"-\"`", t)
	}
	for _, m := range members {
		if reason := propertyRefused(m.name); reason != "" {
			return nil, faultf("the name %q cannot be used: %s; choose another in its json tag", m.name, reason).in(m.goName)
		}
	}
	n.members = members
	return n, nil
}

// titleOf returns the Python name of a Go struct: its own name, with the names of its
// type arguments; for a struct without a name, that of the field that holds it.
func titleOf(t reflect.Type, hint string) string {
	name := t.Name()
	if name == "" {
		name = hint
	}
	parts := strings.FieldsFunc(name, func(r rune) bool { return strings.ContainsRune("[],* {};\"", r) })
	kept := parts[:0]
	for _, part := range parts {
		part = part[strings.LastIndexAny(part, "/.")+1:]
		part = strings.Map(func(r rune) rune {
			if isIdentifier("a" + string(r)) {
				return r
			}
			return -1
		}, part)
		if part != "" {
			kept = append(kept, part)
		}
	}
	if title := strings.Join(kept, "_"); isIdentifier(title) {
		return title
	}
	return "Object"
}
