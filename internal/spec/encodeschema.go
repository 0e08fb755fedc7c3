package spec

import (
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

	"github.com/dspex/dspex/internal/nearest"
)

// exactFloat is the largest size up to which every whole number is a float64.
const exactFloat = 1 << 53

// bySchema writes v, a value of any Go type, as one that fits the schema.
func (e *encoder) bySchema(root, s *Schema, v reflect.Value) *fault {
	s = s.resolve(root)
	if s.anything() {
		return e.anything(v)
	}
	for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer && !isBig(v)) {
		v = v.Elem()
	}
	switch {
	case s.Enum != nil:
		return e.enum(s, v)
	case s.AnyOf != nil:
		return e.anyOf(root, s, v)
	case !v.IsValid():
		if s.Type != typeNull {
			return unfit("null", s.notation(root, 0))
		}
		e.buf = append(e.buf, "null"...)
		return nil
	}
	switch s.Type {
	case typeString:
		return e.stringBySchema(s, v)
	case typeInteger:
		return e.integer(v)
	case typeNumber:
		return e.numberBySchema(v)
	case typeBoolean:
		if v.Kind() != reflect.Bool {
			return unfitValue(v, "bool")
		}
		e.buf = strconv.AppendBool(e.buf, v.Bool())
		return nil
	case typeArray:
		items := s.Items
		if items == nil {
			items = &Schema{}
		}
		if k := v.Kind(); k != reflect.Array && (k != reflect.Slice || v.Type().Elem().Kind() == reflect.Uint8) {
			return unfitValue(v, s.notation(root, 0))
		}
		return e.list(v, func(elem reflect.Value) *fault { return e.bySchema(root, items, elem) })
	case typeObject:
		if s.Properties != nil {
			return e.object(root, s, v)
		}
		if v.Kind() != reflect.Map || v.Type().Key().Kind() != reflect.String {
			return unfitValue(v, s.notation(root, 0))
		}
		return e.dict(v, func(elem reflect.Value) *fault { return e.bySchema(root, s.valueSchema(), elem) })
	default:
		return unfitValue(v, s.notation(root, 0))
	}
}

func isBig(v reflect.Value) bool { return v.Type() == reflect.TypeFor[*big.Int]() }

func unfit(is, want string) *fault { return faultf("it is %s, not %s", is, want) }

// unfitValue names the Go type of what does not fit, and short values themselves.
func unfitValue(v reflect.Value, want string) *fault {
	switch v.Kind() {
	case reflect.String:
		return unfit("the text "+quoted(v.String()), want)
	case reflect.Bool:
		return unfit(strconv.FormatBool(v.Bool()), want)
	case reflect.Float32, reflect.Float64:
		return unfit("the number "+strconv.FormatFloat(v.Float(), 'g', -1, 64), want)
	default:
		if v.CanInt() {
			return unfit("the number "+strconv.FormatInt(v.Int(), 10), want)
		}
		return unfit("a Go "+v.Type().String(), want)
	}
}

func (e *encoder) enum(s *Schema, v reflect.Value) *fault {
	start := len(e.buf)
	switch {
	case !v.IsValid():
		e.buf = append(e.buf, "null"...)
	case v.Kind() == reflect.Bool:
		e.buf = strconv.AppendBool(e.buf, v.Bool())
	case v.Kind() == reflect.String && v.Type() != reflect.TypeFor[json.Number]():
		if f := e.text(v.String()); f != nil {
			return f
		}
	default:
		if f := e.integer(v); f != nil {
			return unfitValue(v, "one of "+joinRaw(s.Enum))
		}
	}
	text := string(e.buf[start:])
	if !slices.ContainsFunc(s.Enum, func(one json.RawMessage) bool { return string(one) == text }) {
		return faultf("%s is not one of %s", oneLine(text), joinRaw(s.Enum))
	}
	return nil
}

func (e *encoder) anyOf(root, s *Schema, v reflect.Value) *fault {
	buf, attachments, depth := len(e.buf), len(e.attachments), e.depth
	var last *fault
	others := 0
	for _, one := range s.AnyOf {
		f := e.bySchema(root, one, v)
		if f == nil {
			return nil
		}
		e.buf, e.attachments, e.depth = e.buf[:buf], e.attachments[:attachments], depth
		if one.Type != typeNull {
			others++
			last = f
		}
	}
	if others == 1 {
		return last
	}
	if !v.IsValid() {
		return unfit("null", s.notation(root, 0))
	}
	return unfitValue(v, s.notation(root, 0))
}

func (e *encoder) stringBySchema(s *Schema, v reflect.Value) *fault {
	t, isTime := reflect.TypeAssert[time.Time](v)
	switch {
	case s.ContentEncoding != "":
		if e.inline && v.Kind() == reflect.String {
			if _, err := base64.StdEncoding.DecodeString(v.String()); err == nil {
				return e.text(v.String())
			}
		}
		if v.Kind() != reflect.Slice || v.Type().Elem().Kind() != reflect.Uint8 {
			return unfitValue(v, "bytes; give a []byte")
		}
		return e.attach(v.Bytes())
	case s.Format == formatDateTime:
		if !isTime && v.Kind() == reflect.String {
			t, isTime = readTime(v.String())
		}
		if !isTime {
			return unfitValue(v, "datetime; give a time.Time or text such as 2006-01-02T15:04:05Z")
		}
		return e.time(t)
	case s.Format == formatDate:
		if !isTime && v.Kind() == reflect.String {
			var err error
			t, err = time.Parse(dateLayout, v.String())
			isTime = err == nil
		}
		if !isTime {
			return unfitValue(v, "date; give a time.Time or text such as 2006-01-02")
		}
		return e.text(t.Format(dateLayout))
	case v.Kind() == reflect.String && v.Type() != reflect.TypeFor[json.Number]():
		return e.text(v.String())
	}
	if _, ok := reflect.TypeAssert[encoding.TextMarshaler](addressable(v)); ok && !isTime && v.Kind() != reflect.Map {
		return e.marshalText(addressable(v).Elem())
	}
	return unfitValue(v, "str")
}

// integer writes any Go value that is a whole number. A float64 counts when it is one
// exactly, because that is what encoding/json makes of a number in a map.
func (e *encoder) integer(v reflect.Value) *fault {
	switch {
	case v.CanInt():
		e.buf = strconv.AppendInt(e.buf, v.Int(), 10)
		return nil
	case v.CanUint():
		e.buf = strconv.AppendUint(e.buf, v.Uint(), 10)
		return nil
	case v.CanFloat():
		if f := v.Float(); f == math.Trunc(f) && math.Abs(f) <= exactFloat {
			e.buf = strconv.AppendInt(e.buf, int64(f), 10)
			return nil
		}
	case isBig(v) && !v.IsNil():
		i, _ := reflect.TypeAssert[*big.Int](v)
		return e.number(i.String())
	case v.Type() == reflect.TypeFor[big.Int]():
		i, _ := reflect.TypeAssert[*big.Int](addressable(v))
		return e.number(i.String())
	case v.Type() == reflect.TypeFor[json.Number]() && !strings.ContainsAny(v.String(), ".eE"):
		return e.number(v.String())
	}
	return unfitValue(v, "int")
}

func (e *encoder) numberBySchema(v reflect.Value) *fault {
	switch {
	case v.CanFloat():
		return e.float(v.Float(), v.Type().Bits())
	case v.Type() == reflect.TypeFor[json.Number]():
		return e.number(v.String())
	}
	if f := e.integer(v); f != nil {
		return unfitValue(v, "float")
	}
	return nil
}

// object writes a map or a struct as a class.
func (e *encoder) object(root, s *Schema, v reflect.Value) *fault {
	if f := e.enter(); f != nil {
		return f
	}
	defer e.leave()
	parts, f := partsOf(v, s.title())
	if f != nil {
		return f
	}
	for name := range parts {
		if s.property(name) == nil {
			names := make([]string, len(s.Properties))
			for i, p := range s.Properties {
				names[i] = p.Name
			}
			return unknownName(s.title()+" has no property", name, "properties", names)
		}
	}
	e.buf = append(e.buf, '{')
	first := true
	for _, p := range s.Properties {
		part, there := parts[p.Name]
		switch {
		case !there && s.required(p.Name):
			return faultf("it is missing").in(p.Name)
		case !there:
			continue
		}
		e.key(p.Name, &first)
		if isNil(part) && !s.required(p.Name) {
			e.buf = append(e.buf, "null"...)
			continue
		}
		if f := e.bySchema(root, p.Schema, part); f != nil {
			return f.in(p.Name)
		}
	}
	e.buf = append(e.buf, '}')
	return nil
}

func isNil(v reflect.Value) bool {
	for v.IsValid() && (v.Kind() == reflect.Interface || v.Kind() == reflect.Pointer) {
		v = v.Elem()
	}
	return !v.IsValid()
}

// unknownName says that there is no such name, and which one was probably meant.
func unknownName(what, name, kind string, known []string) *fault {
	if near, ok := nearest.Nearest(name, known); ok {
		return faultf("%s %s; did you mean %q?", what, quoted(name), near)
	}
	if len(known) == 0 {
		return faultf("%s %s; there are no %s", what, quoted(name), kind)
	}
	return faultf("%s %s; the %s are %s", what, quoted(name), kind, strings.Join(known, ", "))
}

// partsOf returns the members of a map with string keys, or the fields of a struct that
// are there, by name.
func partsOf(v reflect.Value, want string) (map[string]reflect.Value, *fault) {
	parts := map[string]reflect.Value{}
	switch {
	case v.Kind() == reflect.Map && v.Type().Key().Kind() == reflect.String:
		for it := v.MapRange(); it.Next(); {
			parts[it.Key().String()] = it.Value()
		}
		return parts, nil
	case v.Kind() == reflect.Struct && !speaks(v.Type()):
		c := compiler{structs: map[reflect.Type]*node{}}
		members, f := c.members(v.Type())
		if f != nil {
			return nil, f
		}
		for i := range members {
			if part, there := members[i].value(v); there {
				parts[members[i].name] = part
			}
		}
		return parts, nil
	default:
		return nil, unfitValue(v, want)
	}
}
