package spec

import (
	"reflect"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// members returns the fields of a struct that JSON shows, in the order of declaration and
// with embedded structs flattened, by the rules of encoding/json: an outer field hides
// one of the same name inside an embedded struct. Where those rules would silently drop
// two fields of one name, it is a fault.
func (c *compiler) members(t reflect.Type) ([]member, *fault) {
	w := memberWalk{compiler: c, open: map[reflect.Type]bool{}}
	if f := w.walk(t, nil, false, 0); f != nil {
		return nil, f
	}
	return w.visible()
}

type memberWalk struct {
	*compiler

	found []found
	open  map[reflect.Type]bool
}

type found struct {
	member

	depth  int
	tagged bool
	field  reflect.StructField
}

func (w *memberWalk) walk(t reflect.Type, index []int, embedded bool, depth int) *fault {
	if w.open[t] {
		return nil // its fields are already there, less deep
	}
	w.open[t] = true
	defer delete(w.open, t)
	for i := range t.NumField() {
		field := t.Field(i)
		tag := field.Tag.Get("json")
		if tag == "-" {
			continue
		}
		name, options, _ := strings.Cut(tag, ",")
		at := append(slices.Clone(index), i)
		if inner, pointer := flattened(field, name); inner != nil {
			if pointer && !field.IsExported() {
				return faultf("the embedded pointer *%s cannot be set, its type is not exported; embed the struct itself",
					inner.Name()).in(field.Name)
			}
			if f := w.walk(inner, at, embedded || pointer, depth+1); f != nil {
				return f.in(field.Name)
			}
			continue
		}
		if !field.IsExported() {
			continue
		}
		m := member{goName: field.Name, index: at, embedded: embedded, desc: field.Tag.Get("dspy")}
		if f := m.named(name, options); f != nil {
			return f.in(field.Name)
		}
		w.found = append(w.found, found{m, depth, name != "", field})
	}
	return nil
}

// flattened returns the struct whose fields take the place of an embedded field, and
// whether it is reached through a pointer; nil for a field that stands for itself.
func flattened(field reflect.StructField, name string) (inner reflect.Type, pointer bool) {
	if !field.Anonymous || name != "" {
		return nil, false
	}
	inner = field.Type
	if inner.Kind() == reflect.Pointer {
		inner, pointer = inner.Elem(), true
	}
	if inner.Kind() != reflect.Struct || speaks(inner) {
		return nil, false
	}
	return inner, pointer
}

// named reads the member's json tag.
func (m *member) named(name, options string) *fault {
	m.name = name
	if name == "" {
		m.name = m.goName
	} else if !jsonName(name) {
		// encoding/json would silently use the Go name instead.
		return faultf("the name %q in its json tag is not one that encoding/json takes", name)
	}
	if !utf8.ValidString(m.desc) {
		return faultf("its dspy tag is not valid UTF-8")
	}
	for option := range strings.SplitSeq(options, ",") {
		switch option {
		case "", "omitempty":
			m.omitEmpty = m.omitEmpty || option == "omitempty"
		case "omitzero":
			m.omitZero = true
		case "string":
			return faultf("the json option \"string\" is not supported; remove it or declare a string")
		default:
			return faultf("the json option %q is not known; use omitempty or omitzero", option)
		}
	}
	return nil
}

// jsonName reports whether encoding/json takes the name in a tag.
func jsonName(name string) bool {
	for _, r := range name {
		if !strings.ContainsRune("!#$%&()*+-./:;<=>?@[]^_{|}~ ", r) && !unicode.IsLetter(r) && !unicode.IsDigit(r) {
			return false
		}
	}
	return name != ""
}

// visible picks, for each name, the field that JSON shows, and compiles its type.
func (w *memberWalk) visible() ([]member, *fault) {
	var members []member
	for _, candidate := range w.found {
		winner, f := w.winner(candidate.name)
		if f != nil {
			return nil, f
		}
		if !slices.Equal(winner.index, candidate.index) {
			continue
		}
		m := candidate.member
		n, f := w.compile(candidate.field.Type, m.goName)
		if f == nil {
			if tag, ok := candidate.field.Tag.Lookup("enum"); ok {
				n, f = n.tagged(tag)
			}
		}
		if f != nil {
			return nil, f.in(m.goName)
		}
		m.node = n
		members = append(members, m)
	}
	return members, nil
}

// winner returns the least deep field of that name; of equally deep ones the one whose
// name comes from a tag.
func (w *memberWalk) winner(name string) (*found, *fault) {
	var best *found
	tie := ""
	for i := range w.found {
		f := &w.found[i]
		if f.name != name {
			continue
		}
		switch {
		case best == nil || f.depth < best.depth || f.depth == best.depth && f.tagged && !best.tagged:
			best, tie = f, ""
		case f.depth == best.depth && f.tagged == best.tagged:
			tie = f.goName
		}
	}
	if tie != "" {
		return nil, faultf("the fields %s and %s have the same name %q in JSON; rename one in its json tag",
			best.goName, tie, name)
	}
	return best, nil
}

// value returns the member's value in v, and whether it is there: nil pointers and, where
// the json tag says so, empty and zero values are absent.
func (m *member) value(v reflect.Value) (reflect.Value, bool) {
	for i, x := range m.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				return reflect.Value{}, false
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	switch {
	case v.Kind() == reflect.Pointer && v.IsNil(),
		m.omitEmpty && isEmpty(v),
		m.omitZero && isZero(v):
		return reflect.Value{}, false
	}
	return v, true
}

// settable returns where the member is stored in v, with embedded pointers allocated.
func (m *member) settable(v reflect.Value) reflect.Value {
	for i, x := range m.index {
		if i > 0 && v.Kind() == reflect.Pointer {
			if v.IsNil() {
				v.Set(reflect.New(v.Type().Elem()))
			}
			v = v.Elem()
		}
		v = v.Field(x)
	}
	return v
}

// isEmpty is what omitempty means.
func isEmpty(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.Array, reflect.Map, reflect.Slice, reflect.String:
		return v.Len() == 0
	case reflect.Struct:
		return false
	default:
		return v.IsZero()
	}
}

// isZero is what omitzero means.
func isZero(v reflect.Value) bool {
	type zeroer interface{ IsZero() bool }
	if z, ok := reflect.TypeAssert[zeroer](v); ok {
		return z.IsZero()
	}
	if z, ok := reflect.TypeAssert[zeroer](addressable(v)); ok {
		return z.IsZero()
	}
	return v.IsZero()
}

// addressable returns a pointer to v, or to a copy of it.
func addressable(v reflect.Value) reflect.Value {
	if v.CanAddr() {
		return v.Addr()
	}
	p := reflect.New(v.Type())
	p.Elem().Set(v)
	return p
}
