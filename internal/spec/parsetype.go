package spec

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"github.com/dspex/dspex/internal/nearest"
)

// typeNames are the type names that are suggested for one that is not known.
func typeNames() []string {
	return []string{
		"str", "int", "float", "bool", "bytes", "datetime", "date", "Any", "list", "dict",
		"Literal", "Optional", "Union", "None",
	}
}

// union reads T | U | …, the type of the named field.
func (p *parser) union(field string, depth int) (*Schema, *syntaxError) {
	if depth > maxDepth {
		return nil, syntax(p.token.at, "the type of %q is nested more than %d deep", field, maxDepth)
	}
	first, err := p.single(field, depth)
	if err != nil {
		return nil, err
	}
	members := []*Schema{first}
	for p.is("|") {
		if err := p.advance(); err != nil {
			return nil, err
		}
		next, err := p.single(field, depth)
		if err != nil {
			return nil, err
		}
		members = append(members, next)
	}
	return unionOf(members), nil
}

// unionOf flattens and orders a union: each member once, null last.
func unionOf(members []*Schema) *Schema {
	var flat []*Schema
	seen := map[string]bool{}
	null := false
	var add func(s *Schema)
	add = func(s *Schema) {
		switch {
		case s.AnyOf != nil:
			for _, one := range s.AnyOf {
				add(one)
			}
		case s.Type == typeNull:
			null = true
		default:
			if text := string(s.append(nil)); !seen[text] {
				seen[text] = true
				flat = append(flat, s)
			}
		}
	}
	for _, s := range members {
		add(s)
	}
	// Any already includes everything else, but does not say that a field may be absent.
	if i := slices.IndexFunc(flat, (*Schema).anything); i >= 0 {
		flat = flat[i : i+1]
	}
	if null {
		flat = append(flat, &Schema{Type: typeNull})
	}
	if len(flat) == 1 {
		return flat[0]
	}
	return &Schema{AnyOf: flat}
}

// single reads one type that is not a union by "|".
func (p *parser) single(field string, depth int) (*Schema, *syntaxError) {
	name := p.token
	if name.kind != tokenName {
		return nil, syntax(name.at, "expected the type of %q, such as str or list[str], found %v", field, name)
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	base := strings.TrimPrefix(name.text, "typing.")
	switch base {
	case "str":
		return p.plain(name, &Schema{Type: typeString})
	case "int":
		return p.plain(name, &Schema{Type: typeInteger})
	case "float":
		return p.plain(name, &Schema{Type: typeNumber})
	case "bool":
		return p.plain(name, &Schema{Type: typeBoolean})
	case "bytes":
		return p.plain(name, &Schema{Type: typeString, ContentEncoding: encodingBase64})
	case "datetime", "datetime.datetime":
		return p.plain(name, &Schema{Type: typeString, Format: formatDateTime})
	case "date", "datetime.date":
		return p.plain(name, &Schema{Type: typeString, Format: formatDate})
	case "Any", "object":
		return p.plain(name, &Schema{})
	case "None", "NoneType":
		return p.plain(name, &Schema{Type: typeNull})
	case "list", "List":
		return p.list(field, depth)
	case "dict", "Dict":
		return p.dict(field, depth)
	case "Literal":
		return p.literal(name)
	case "Optional":
		args, err := p.arguments(name, field, depth, 1, 1)
		if err != nil {
			return nil, err
		}
		return unionOf(append(args, &Schema{Type: typeNull})), nil
	case "Union":
		args, err := p.arguments(name, field, depth, 1, maxFields)
		if err != nil {
			return nil, err
		}
		return unionOf(args), nil
	}
	return nil, unknownType(name, field)
}

func unknownType(name token, field string) *syntaxError {
	switch strings.TrimPrefix(name.text, "typing.") {
	case "tuple", "Tuple", "set", "Set", "frozenset", "Sequence", "Iterable":
		return syntax(name.at, "the type %s of %q is not supported; use list", quoted(name.text), field)
	case "Mapping":
		return syntax(name.at, "the type %s of %q is not supported; use dict", quoted(name.text), field)
	case "Enum":
		return syntax(name.at, "the type %s of %q is not supported; use Literal['a', 'b']", quoted(name.text), field)
	case "string", "text":
		return syntax(name.at, "there is no type %s (field %q); did you mean \"str\"?", quoted(name.text), field)
	case "integer", "long":
		return syntax(name.at, "there is no type %s (field %q); did you mean \"int\"?", quoted(name.text), field)
	case "number", "double", "decimal", "Decimal":
		return syntax(name.at, "there is no type %s (field %q); did you mean \"float\"?", quoted(name.text), field)
	case "array":
		return syntax(name.at, "there is no type %s (field %q); did you mean \"list\"?", quoted(name.text), field)
	case "map":
		return syntax(name.at, "there is no type %s (field %q); did you mean \"dict\"?", quoted(name.text), field)
	}
	if near, ok := nearest.Nearest(name.text, typeNames()); ok {
		return syntax(name.at, "there is no type %s (field %q); did you mean %q?", quoted(name.text), field, near)
	}
	return syntax(name.at, "there is no type %s (field %q); the types are %s",
		quoted(name.text), field, strings.Join(typeNames(), ", "))
}

// plain returns s, the type that name stands for, which takes no arguments.
func (p *parser) plain(name token, s *Schema) (*Schema, *syntaxError) {
	if p.is("[") {
		return nil, syntax(p.token.at, "%s takes no arguments in brackets", name.text)
	}
	return s, nil
}

func (p *parser) list(field string, depth int) (*Schema, *syntaxError) {
	if !p.is("[") {
		return &Schema{Type: typeArray, Items: &Schema{}}, nil
	}
	args, err := p.arguments(token{text: "list"}, field, depth, 1, 1)
	if err != nil {
		return nil, err
	}
	return &Schema{Type: typeArray, Items: args[0]}, nil
}

func (p *parser) dict(field string, depth int) (*Schema, *syntaxError) {
	if !p.is("[") {
		return &Schema{Type: typeObject, Values: &Schema{}}, nil
	}
	at := p.token.at
	args, err := p.arguments(token{text: "dict"}, field, depth, 2, 2)
	if err != nil {
		return nil, err
	}
	if k := args[0]; k.Type != typeString || k.Format != "" || k.ContentEncoding != "" {
		return nil, syntax(at, "the keys of a dict are str (field %q); write dict[str, %s]",
			field, args[1].notation(args[1], 0))
	}
	return &Schema{Type: typeObject, Values: args[1]}, nil
}

// arguments reads [T, U, …], between least and most of them.
func (p *parser) arguments(name token, field string, depth, least, most int) ([]*Schema, *syntaxError) {
	if !p.is("[") {
		return nil, syntax(p.token.at, "%s needs a type in brackets, such as %s[str]", name.text, name.text)
	}
	open := p.token.at
	var args []*Schema
	for {
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.is("]") && len(args) == 0 {
			break
		}
		arg, err := p.union(field, depth+1)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
		if p.is(",") {
			continue
		}
		if !p.is("]") {
			return nil, syntax(p.token.at, "expected \",\" or \"]\", found %v", p.token)
		}
		break
	}
	if len(args) < least || len(args) > most {
		want := strconv.Itoa(least)
		if most > least {
			want = "at least " + want
		}
		return nil, syntax(open, "%s takes %s in brackets, not %d", name.text, want, len(args))
	}
	return args, p.advance()
}

// literal reads [value, …] after Literal.
func (p *parser) literal(name token) (*Schema, *syntaxError) {
	if !p.is("[") {
		return nil, syntax(p.token.at, "Literal needs its values in brackets, such as Literal['yes', 'no']")
	}
	s := &Schema{Enum: []json.RawMessage{}}
	seen := map[string]bool{}
	null := false
	for {
		if err := p.advance(); err != nil {
			return nil, err
		}
		v, err := p.literalValue()
		if err != nil {
			return nil, err
		}
		switch {
		case string(v) == "null":
			null = true
		case !seen[string(v)]:
			seen[string(v)] = true
			s.Enum = append(s.Enum, v)
		}
		if err := p.advance(); err != nil {
			return nil, err
		}
		if p.is(",") {
			continue
		}
		if !p.is("]") {
			return nil, syntax(p.token.at, "expected \",\" or \"]\" in Literal, found %v", p.token)
		}
		break
	}
	if err := p.advance(); err != nil {
		return nil, err
	}
	switch {
	case len(s.Enum) == 0:
		return nil, syntax(name.at, "Literal needs a value besides None")
	case null:
		return unionOf([]*Schema{s, {Type: typeNull}}), nil
	}
	return s, nil
}

func (p *parser) literalValue() (json.RawMessage, *syntaxError) {
	t := p.token
	switch {
	case t.kind == tokenString:
		return appendString(nil, t.text), nil
	case t.kind == tokenNumber:
		n, err := strconv.ParseInt(t.text, 10, 64)
		if err != nil {
			return nil, syntax(t.at, "%s is not a whole number of 64 bits; Literal takes strings, whole numbers, True, False and None", t)
		}
		return strconv.AppendInt(nil, n, 10), nil
	case t.kind == tokenName && t.text == "True":
		return json.RawMessage("true"), nil
	case t.kind == tokenName && t.text == "False":
		return json.RawMessage("false"), nil
	case t.kind == tokenName && t.text == "None":
		return json.RawMessage("null"), nil
	case t.kind == tokenName:
		return nil, syntax(t.at, "%s is not a value; put strings in quotes: Literal['%s']", t, oneLine(t.text))
	default:
		return nil, syntax(t.at, "expected a value of Literal, such as 'yes' or 1, found %v", t)
	}
}
