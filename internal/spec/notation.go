package spec

import (
	"encoding/json"
	"strconv"
	"strings"
)

// Type returns the field's type in DSPy's notation, such as "list[str]" or
// "Literal['yes', 'no'] | None". A class is shown by its name.
func (f *Field) Type() string { return f.Schema.notation(&f.Schema, 0) }

func (s *Schema) notation(root *Schema, depth int) string {
	if depth > maxDepth {
		return "…"
	}
	switch {
	case s.Ref != "":
		target := s.resolve(root)
		if target.Properties != nil {
			return target.title()
		}
		return target.notation(root, depth+1)
	case s.Enum != nil:
		values := make([]string, len(s.Enum))
		for i, v := range s.Enum {
			values[i] = pythonLiteral(v)
		}
		return "Literal[" + strings.Join(values, ", ") + "]"
	case s.AnyOf != nil:
		parts := make([]string, len(s.AnyOf))
		for i, one := range s.AnyOf {
			parts[i] = one.notation(root, depth+1)
		}
		return strings.Join(parts, " | ")
	}
	part := func(s *Schema) string {
		if s == nil {
			return "Any"
		}
		return s.notation(root, depth+1)
	}
	switch s.Type {
	case typeString:
		switch {
		case s.ContentEncoding != "":
			return "bytes"
		case s.Format == formatDateTime:
			return "datetime"
		case s.Format == formatDate:
			return "date"
		}
		return "str"
	case typeInteger:
		return "int"
	case typeNumber:
		return "float"
	case typeBoolean:
		return "bool"
	case typeNull:
		return "None"
	case typeArray:
		return "list[" + part(s.Items) + "]"
	case typeObject:
		if s.Properties != nil {
			return s.title()
		}
		return "dict[str, " + part(s.Values) + "]"
	default:
		return "Any"
	}
}

func (s *Schema) title() string {
	if s.Title == "" {
		return "Object"
	}
	return s.Title
}

// pythonLiteral writes a JSON scalar as Python does.
func pythonLiteral(v json.RawMessage) string {
	switch string(v) {
	case "true":
		return "True"
	case "false":
		return "False"
	case "null":
		return "None"
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		return string(v)
	}
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		switch {
		case r == '\'' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r == '\r':
			b.WriteString(`\r`)
		case r < ' ' || r == 0x7f:
			b.WriteString(`\x`)
			b.WriteByte(hexDigits[r>>4])
			b.WriteByte(hexDigits[r&15])
		case !strconv.IsPrint(r) && r != ' ' && r <= 0xffff:
			b.WriteString(`\u`)
			for shift := 12; shift >= 0; shift -= 4 {
				b.WriteByte(hexDigits[r>>shift&15])
			}
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('\'')
	return b.String()
}
