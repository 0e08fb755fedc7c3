package spec

import (
	"bytes"
	"encoding"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// readTree reads JSON text into maps, slices, strings, bools, json.Numbers and nil. Text
// that Go would change silently is an error.
func readTree(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("the text is not valid UTF-8")
	}
	if err := checkEscapes(text); err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var tree any
	if err := d.Decode(&tree); err != nil {
		return nil, fmt.Errorf("it is not JSON: %w", err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, errors.New("it is not JSON: something follows the value")
	}
	return tree, nil
}

// decoder reads the JSON of an answer into values.
type decoder struct {
	attachments [][]byte
}

func mismatch(want string, tree any) *fault {
	return faultf("it is %s, not %s", describe(tree), want)
}

func describe(tree any) string {
	switch tree := tree.(type) {
	case nil:
		return "null"
	case string:
		return "the text " + quoted(tree)
	case bool:
		return strconv.FormatBool(tree)
	case json.Number:
		return "the number " + oneLine(tree.String())
	case []any:
		return "a list"
	default:
		return "an object"
	}
}

// typed reads tree into v, a settable value of n's type.
func (d *decoder) typed(n *node, tree any, v reflect.Value) *fault {
	if n.enum != nil {
		if f := d.allowed(n, tree); f != nil {
			return f
		}
	}
	switch n.shape {
	case shapeString:
		s, ok := tree.(string)
		if !ok {
			return mismatch("a string", tree)
		}
		v.SetString(s)
	case shapeBool:
		b, ok := tree.(bool)
		if !ok {
			return mismatch("true or false", tree)
		}
		v.SetBool(b)
	case shapeInt, shapeUint, shapeFloat, shapeBigInt, shapeNumber:
		number, ok := tree.(json.Number)
		if !ok {
			return mismatch("a number", tree)
		}
		return setNumber(n, number.String(), v)
	case shapeBytes:
		b, f := d.bytes(tree)
		if f != nil {
			return f
		}
		v.SetBytes(b)
	case shapeTime:
		s, ok := tree.(string)
		if !ok {
			return mismatch("a time", tree)
		}
		t, ok := readTime(s)
		if !ok {
			return mismatch("a time such as 2006-01-02T15:04:05Z", tree)
		}
		v.Set(reflect.ValueOf(t))
	case shapeRaw:
		v.SetBytes(writeTree(nil, tree))
	case shapeAny:
		setAny(v, free(tree))
	case shapeText:
		return setText(tree, v)
	case shapeCustom:
		if err := json.Unmarshal(writeTree(nil, tree), v.Addr().Interface()); err != nil {
			return faultf("%v", err)
		}
	case shapeStruct:
		return d.structure(n, tree, v)
	case shapeSlice, shapeArray:
		return d.list(n, tree, v)
	case shapeMap:
		return d.dict(n, tree, v)
	case shapePointer:
		if tree == nil {
			v.SetZero()
			return nil
		}
		p := reflect.New(n.goType.Elem())
		if f := d.typed(n.elem, tree, p.Elem()); f != nil {
			return f
		}
		v.Set(p)
	}
	return nil
}

func setAny(v reflect.Value, value any) {
	if value == nil {
		v.SetZero()
		return
	}
	v.Set(reflect.ValueOf(value))
}

func (d *decoder) allowed(n *node, tree any) *fault {
	switch tree.(type) {
	case string, json.Number:
	default:
		return mismatch("one of "+strings.Join(n.enum, ", "), tree)
	}
	if !slices.Contains(n.enum, string(writeTree(nil, tree))) {
		return mismatch("one of "+strings.Join(n.enum, ", "), tree)
	}
	return nil
}

func setNumber(n *node, text string, v reflect.Value) *fault {
	switch n.shape {
	case shapeInt:
		i, err := strconv.ParseInt(text, 10, v.Type().Bits())
		if err != nil {
			return faultf("the number %s does not fit the Go type %s", oneLine(text), v.Type())
		}
		v.SetInt(i)
	case shapeUint:
		u, err := strconv.ParseUint(text, 10, v.Type().Bits())
		if err != nil {
			return faultf("the number %s does not fit the Go type %s", oneLine(text), v.Type())
		}
		v.SetUint(u)
	case shapeFloat:
		f, err := strconv.ParseFloat(text, v.Type().Bits())
		if err != nil {
			return faultf("the number %s does not fit the Go type %s", oneLine(text), v.Type())
		}
		v.SetFloat(f)
	case shapeBigInt:
		i, ok := new(big.Int).SetString(text, 10)
		if !ok {
			return faultf("the number %s is not whole", oneLine(text))
		}
		v.Set(reflect.ValueOf(i).Elem())
	default:
		v.SetString(text)
	}
	return nil
}

// bytes returns the attachment that tree names.
func (d *decoder) bytes(tree any) ([]byte, *fault) {
	object, ok := tree.(map[string]any)
	number, isNumber := object["$attachment"].(json.Number)
	if !ok || len(object) != 1 || !isNumber {
		return nil, mismatch("bytes", tree)
	}
	i, err := strconv.Atoi(number.String())
	if err != nil || i < 0 || i >= len(d.attachments) {
		return nil, faultf("there is no attachment %s; the answer has %d", oneLine(number.String()), len(d.attachments))
	}
	if d.attachments[i] == nil {
		return []byte{}, nil
	}
	return d.attachments[i], nil
}

func setText(tree any, v reflect.Value) *fault {
	s, ok := tree.(string)
	if !ok {
		return mismatch("a string", tree)
	}
	u, _ := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr())
	if err := u.UnmarshalText([]byte(s)); err != nil {
		return faultf("%v", err)
	}
	return nil
}

func (d *decoder) structure(n *node, tree any, v reflect.Value) *fault {
	object, ok := tree.(map[string]any)
	if !ok {
		return mismatch("an object", tree)
	}
	for i := range n.members {
		if f := d.member(&n.members[i], object, v); f != nil {
			return f
		}
	}
	return nil
}

// member reads a struct's field out of an object. An absent or null member leaves a field
// that is optional at its zero value; for others it is a fault.
func (d *decoder) member(m *member, object map[string]any, v reflect.Value) *fault {
	part, there := object[m.name]
	switch {
	case m.optional() && part == nil:
		return nil
	case !there:
		return faultf("it is missing").in(m.goName)
	}
	if f := d.typed(m.node, part, m.settable(v)); f != nil {
		return f.in(m.goName)
	}
	return nil
}

func (d *decoder) list(n *node, tree any, v reflect.Value) *fault {
	list, ok := tree.([]any)
	if !ok {
		return mismatch("a list", tree)
	}
	if n.shape == shapeArray {
		if len(list) != v.Len() {
			return faultf("it has %d elements, not %d", len(list), v.Len())
		}
	} else {
		v.Set(reflect.MakeSlice(n.goType, len(list), len(list)))
	}
	for i, part := range list {
		if f := d.typed(n.elem, part, v.Index(i)); f != nil {
			return f.at(i)
		}
	}
	return nil
}

func (d *decoder) dict(n *node, tree any, v reflect.Value) *fault {
	object, ok := tree.(map[string]any)
	if !ok {
		return mismatch("an object", tree)
	}
	m := reflect.MakeMapWithSize(n.goType, len(object))
	for name, part := range object {
		value := reflect.New(n.goType.Elem()).Elem()
		if f := d.typed(n.elem, part, value); f != nil {
			return f.key(name)
		}
		m.SetMapIndex(reflect.ValueOf(name).Convert(n.goType.Key()), value)
	}
	v.Set(m)
	return nil
}

// free turns what readTree returns into plain Go values: whole numbers become int64,
// uint64 or, beyond 64 bits, stay json.Number; other numbers become float64. tree itself
// stays as it is: another member of a union may be tried on it.
func free(tree any) any {
	switch tree := tree.(type) {
	case json.Number:
		text := tree.String()
		if strings.ContainsAny(text, ".eE") {
			if f, err := strconv.ParseFloat(text, 64); err == nil {
				return f
			}
			return tree
		}
		if i, err := strconv.ParseInt(text, 10, 64); err == nil {
			return i
		}
		if u, err := strconv.ParseUint(text, 10, 64); err == nil {
			return u
		}
		return tree
	case []any:
		list := make([]any, len(tree))
		for i, part := range tree {
			list[i] = free(part)
		}
		return list
	case map[string]any:
		object := make(map[string]any, len(tree))
		for name, part := range tree {
			object[name] = free(part)
		}
		return object
	default:
		return tree
	}
}

// writeTree appends what readTree returned as JSON.
func writeTree(b []byte, tree any) []byte {
	switch tree := tree.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, tree)
	case string:
		return appendString(b, tree)
	case json.Number:
		return append(b, tree...)
	case []any:
		b = append(b, '[')
		for i, part := range tree {
			if i > 0 {
				b = append(b, ',')
			}
			b = writeTree(b, part)
		}
		return append(b, ']')
	case map[string]any:
		names := make([]string, 0, len(tree))
		for name := range tree {
			names = append(names, name)
		}
		slices.Sort(names)
		b = append(b, '{')
		for i, name := range names {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, name)
			b = append(b, ':')
			b = writeTree(b, tree[name])
		}
		return append(b, '}')
	default:
		return b
	}
}

// bySchema reads tree as a value of the schema: strings, bools, int64 (uint64 where only
// that fits), float64, time.Time for datetimes, []byte, []any, map[string]any and nil.
func (d *decoder) bySchema(root, s *Schema, tree any) (any, *fault) {
	s = s.resolve(root)
	switch {
	case s.anything():
		return free(tree), nil
	case s.Enum != nil:
		text := writeTree(nil, tree)
		if !slices.ContainsFunc(s.Enum, func(v json.RawMessage) bool { return bytes.Equal(v, text) }) {
			return nil, mismatch("one of "+joinRaw(s.Enum), tree)
		}
		return free(tree), nil
	case s.AnyOf != nil:
		return d.anyOf(root, s, tree)
	}
	switch s.Type {
	case typeString:
		return d.stringBySchema(s, tree)
	case typeInteger:
		number, ok := tree.(json.Number)
		if !ok || strings.ContainsAny(number.String(), ".eE") {
			return nil, mismatch("a whole number", tree)
		}
		return free(number), nil
	case typeNumber:
		number, ok := tree.(json.Number)
		if !ok {
			return nil, mismatch("a number", tree)
		}
		f, err := strconv.ParseFloat(number.String(), 64)
		if err != nil {
			return nil, faultf("the number %s does not fit a float64", oneLine(number.String()))
		}
		return f, nil
	case typeBoolean:
		if b, ok := tree.(bool); ok {
			return b, nil
		}
		return nil, mismatch("true or false", tree)
	case typeNull:
		if tree == nil {
			return nil, nil
		}
		return nil, mismatch("null", tree)
	case typeArray:
		return d.listBySchema(root, s, tree)
	default:
		return d.objectBySchema(root, s, tree)
	}
}

func joinRaw(values []json.RawMessage) string {
	return string(bytes.Join(rawSlices(values), []byte(", ")))
}

func (d *decoder) anyOf(root, s *Schema, tree any) (any, *fault) {
	var last *fault
	others := 0
	for _, one := range s.AnyOf {
		value, f := d.bySchema(root, one, tree)
		if f == nil {
			return value, nil
		}
		if one.Type != typeNull {
			others++
			last = f
		}
	}
	if others == 1 {
		return nil, last
	}
	return nil, mismatch(s.notation(root, 0), tree)
}

func (d *decoder) stringBySchema(s *Schema, tree any) (any, *fault) {
	if s.ContentEncoding != "" {
		b, f := d.bytes(tree)
		if f != nil {
			return nil, f
		}
		return b, nil
	}
	text, ok := tree.(string)
	if !ok {
		return nil, mismatch("a string", tree)
	}
	switch s.Format {
	case formatDateTime:
		t, ok := readTime(text)
		if !ok {
			return nil, mismatch("a time such as 2006-01-02T15:04:05Z", tree)
		}
		return t, nil
	case formatDate:
		if _, err := time.Parse(dateLayout, text); err != nil {
			return nil, mismatch("a date such as 2006-01-02", tree)
		}
	}
	return text, nil
}

func (d *decoder) listBySchema(root, s *Schema, tree any) (any, *fault) {
	list, ok := tree.([]any)
	if !ok {
		return nil, mismatch("a list", tree)
	}
	if s.Items == nil {
		return free(list), nil
	}
	out := make([]any, len(list))
	for i, part := range list {
		value, f := d.bySchema(root, s.Items, part)
		if f != nil {
			return nil, f.at(i)
		}
		out[i] = value
	}
	return out, nil
}

func (d *decoder) objectBySchema(root, s *Schema, tree any) (any, *fault) {
	object, ok := tree.(map[string]any)
	if !ok {
		return nil, mismatch("an object", tree)
	}
	out := make(map[string]any, len(object))
	if s.Properties == nil {
		for name, part := range object {
			value, f := d.bySchema(root, s.valueSchema(), part)
			if f != nil {
				return nil, f.key(name)
			}
			out[name] = value
		}
		return out, nil
	}
	for _, p := range s.Properties {
		part, there := object[p.Name]
		switch {
		case !there && s.required(p.Name):
			return nil, faultf("it is missing").in(p.Name)
		case !there:
			continue
		case part == nil && !s.required(p.Name):
			out[p.Name] = nil
			continue
		}
		value, f := d.bySchema(root, p.Schema, part)
		if f != nil {
			return nil, f.in(p.Name)
		}
		out[p.Name] = value
	}
	for name := range object {
		if s.property(name) == nil {
			return nil, faultf("%s has no such property", s.title()).in(name)
		}
	}
	return out, nil
}

func (s *Schema) valueSchema() *Schema {
	if s.Values == nil {
		return &Schema{}
	}
	return s.Values
}
