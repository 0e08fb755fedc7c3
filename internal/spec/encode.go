package spec

import (
	"bytes"
	"encoding"
	"encoding/base64"
	"encoding/json"
	"math"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// encoder writes values as the JSON of a request. encoding/json cannot be used as it is:
// it writes null for a nil slice, replaces invalid UTF-8, has no place for attachments and
// does not say where a NaN is.
type encoder struct {
	buf         []byte
	attachments [][]byte
	// inline is true for what travels outside of a request, such as a default: bytes are
	// base64 text there, and whole numbers have 64 bits.
	inline bool
	// untyped is true inside a value of any type, where bytes have no place.
	untyped bool
	depth   int
}

const bytesUnderAny = "bytes have no place in a value of any type; declare the field as []byte (bytes in a signature)"

func (e *encoder) enter() *fault {
	e.depth++
	if e.depth > maxNesting {
		return faultf("it is nested more than %d deep, or contains itself", maxNesting)
	}
	return nil
}

func (e *encoder) leave() { e.depth-- }

// typed writes v, a value of n's type.
func (e *encoder) typed(n *node, v reflect.Value) *fault {
	start := len(e.buf)
	if f := e.shaped(n, v); f != nil {
		return f
	}
	if n.enum != nil && !slices.Contains(n.enum, string(e.buf[start:])) {
		return faultf("%s is not one of %s", oneLine(string(e.buf[start:])), strings.Join(n.enum, ", "))
	}
	return nil
}

func (e *encoder) shaped(n *node, v reflect.Value) *fault {
	switch n.shape {
	case shapeString:
		return e.text(v.String())
	case shapeBool:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case shapeInt:
		e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
	case shapeUint:
		e.buf = strconv.AppendUint(e.buf, v.Uint(), 10)
	case shapeFloat:
		return e.float(v.Float(), v.Type().Bits())
	case shapeBytes:
		return e.attach(v.Bytes())
	case shapeTime:
		t, _ := reflect.TypeAssert[time.Time](v)
		return e.time(t)
	case shapeBigInt:
		i, _ := reflect.TypeAssert[*big.Int](addressable(v))
		return e.number(i.String())
	case shapeNumber:
		return e.number(v.String())
	case shapeRaw:
		return e.raw(v.Bytes())
	case shapeAny:
		return e.anything(v)
	case shapeText:
		return e.marshalText(v)
	case shapeCustom:
		return e.custom(n, v)
	case shapeStruct:
		return e.structure(n, v)
	case shapeSlice, shapeArray:
		return e.list(v, func(elem reflect.Value) *fault { return e.typed(n.elem, elem) })
	case shapeMap:
		return e.dict(v, func(elem reflect.Value) *fault { return e.typed(n.elem, elem) })
	case shapePointer:
		if v.IsNil() {
			e.buf = append(e.buf, "null"...)
			return nil
		}
		if f := e.enter(); f != nil {
			return f
		}
		defer e.leave()
		return e.typed(n.elem, v.Elem())
	}
	return nil
}

func (e *encoder) text(s string) *fault {
	if !utf8.ValidString(s) {
		return faultf("the string is not valid UTF-8 and would be changed; use []byte for bytes")
	}
	e.buf = appendString(e.buf, s)
	return nil
}

func (e *encoder) float(f float64, bits int) *fault {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return faultf("%v is not a number that JSON can say; use a pointer and nil for a missing number", f)
	}
	e.buf = appendFloat(e.buf, f, bits)
	return nil
}

func (e *encoder) number(text string) *fault {
	if text == "" {
		text = "0" // the zero json.Number
	}
	if !json.Valid([]byte(text)) || text[0] != '-' && (text[0] < '0' || text[0] > '9') {
		return faultf("%s is not a number", quoted(text))
	}
	if err := fitsWire(text, !e.inline); err != nil {
		return faultf("%v", err)
	}
	e.buf = append(e.buf, text...)
	return nil
}

// attach writes bytes: the place of an attachment. The bytes are not copied.
func (e *encoder) attach(b []byte) *fault {
	if e.untyped {
		return faultf(bytesUnderAny)
	}
	if e.inline {
		e.buf = append(e.buf, '"')
		e.buf = base64.StdEncoding.AppendEncode(e.buf, b)
		e.buf = append(e.buf, '"')
		return nil
	}
	e.buf = append(e.buf, `{"$attachment":`...)
	e.buf = strconv.AppendInt(e.buf, int64(len(e.attachments)), 10)
	e.buf = append(e.buf, '}')
	e.attachments = append(e.attachments, b)
	return nil
}

func (e *encoder) raw(text []byte) *fault {
	if text == nil {
		e.buf = append(e.buf, "null"...)
		return nil
	}
	if err := checkText(text, !e.inline); err != nil {
		return faultf("%v", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		return faultf("it is not JSON: %v", err)
	}
	e.buf = append(e.buf, b.Bytes()...)
	return nil
}

func (e *encoder) marshalText(v reflect.Value) *fault {
	m, ok := reflect.TypeAssert[encoding.TextMarshaler](v)
	if !ok {
		m, _ = reflect.TypeAssert[encoding.TextMarshaler](addressable(v))
	}
	text, err := m.MarshalText()
	if err != nil {
		return faultf("%v", err)
	}
	return e.text(string(text))
}

// custom writes a value that writes its own JSON, which must be of the type it named.
func (e *encoder) custom(n *node, v reflect.Value) *fault {
	text, err := json.Marshal(addressable(v).Interface())
	if err != nil {
		return faultf("%v", err)
	}
	tree, err := readTree(text)
	if err != nil {
		return faultf("%v", err)
	}
	return e.bySchema(n.schema, n.schema, reflect.ValueOf(tree))
}

func (e *encoder) structure(n *node, v reflect.Value) *fault {
	if f := e.enter(); f != nil {
		return f
	}
	defer e.leave()
	e.buf = append(e.buf, '{')
	first := true
	for i := range n.members {
		m := &n.members[i]
		value, there := m.value(v)
		if !there {
			continue
		}
		e.key(m.name, &first)
		if f := e.typed(m.node, value); f != nil {
			return f.in(m.goName)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

func (e *encoder) key(name string, first *bool) {
	if !*first {
		e.buf = append(e.buf, ',')
	}
	*first = false
	e.buf = appendString(e.buf, name)
	e.buf = append(e.buf, ':')
}

// list writes a slice or an array; a nil slice is an empty list.
func (e *encoder) list(v reflect.Value, element func(reflect.Value) *fault) *fault {
	if f := e.enter(); f != nil {
		return f
	}
	defer e.leave()
	e.buf = append(e.buf, '[')
	for i := range v.Len() {
		if i > 0 {
			e.buf = append(e.buf, ',')
		}
		if f := element(v.Index(i)); f != nil {
			return f.at(i)
		}
	}
	e.buf = append(e.buf, ']')
	return nil
}

// dict writes a map in the order of its keys, so that equal maps have equal text.
func (e *encoder) dict(v reflect.Value, element func(reflect.Value) *fault) *fault {
	if f := e.enter(); f != nil {
		return f
	}
	defer e.leave()
	keys := v.MapKeys()
	slices.SortFunc(keys, func(a, b reflect.Value) int { return strings.Compare(a.String(), b.String()) })
	e.buf = append(e.buf, '{')
	first := true
	for _, key := range keys {
		name := key.String()
		if !utf8.ValidString(name) {
			return faultf("the key is not valid UTF-8").key(name)
		}
		e.key(name, &first)
		if f := element(v.MapIndex(key)); f != nil {
			return f.key(name)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

// anything writes a value of no declared type.
func (e *encoder) anything(v reflect.Value) *fault {
	outside := e.depth
	defer func() { e.depth = outside }()
	for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) {
		if v.Kind() == reflect.Pointer { // what contains itself does so through one
			if f := e.enter(); f != nil {
				return f
			}
		}
		v = v.Elem()
	}
	if !v.IsValid() {
		e.buf = append(e.buf, "null"...)
		return nil
	}
	t := v.Type()
	if !speaks(t) && t != reflect.TypeFor[json.Number]() {
		switch t.Kind() {
		case reflect.Slice, reflect.Array:
			if t.Kind() == reflect.Slice && t.Elem().Kind() == reflect.Uint8 {
				return faultf(bytesUnderAny)
			}
			return e.list(v, e.anything)
		case reflect.Map:
			if t.Key().Kind() == reflect.String && !speaks(t.Key()) {
				return e.dict(v, e.anything)
			}
		}
	}
	c := compiler{structs: map[reflect.Type]*node{}}
	n, f := c.compile(t, "")
	if f != nil {
		return f
	}
	outer := e.untyped
	e.untyped = true
	defer func() { e.untyped = outer }()
	return e.typed(n, v)
}
