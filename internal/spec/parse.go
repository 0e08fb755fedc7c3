package spec

import (
	"strings"
	"unicode/utf8"

	"github.com/dspex/dspex/internal/status"
)

const (
	// maxText bounds a signature's text, in bytes. Real ones have a few hundred.
	maxText = 64 << 10
	// maxFields bounds a signature's fields. DSPy needs some 50 µs for each.
	maxFields = 256
)

// ParseSignature reads a signature in DSPy's notation: inputs, an arrow, outputs, each
// "name" or "name: type", separated by commas. Without a type a field is a str. There may
// be no inputs. Line breaks and spaces do not matter.
//
//	question -> answer
//	context: list[str], question -> answer: str, score: float
//	text -> label: Literal['spam', 'ham'], reason: str | None
//
// The types are str, int, float, bool, bytes, datetime, date, Any, list[T], dict[str, T],
// Literal[…] of strings, whole numbers, True, False and None, Optional[T], Union[…] and
// T | None; the names that Python's typing module has for them work too. The text is read
// by Go alone: nothing in it can make Python import or run anything.
//
// The error has code invalid_argument, names the position and says what to do. Text
// longer than 64 KiB, more than 256 fields and types nested more than 48 deep are
// refused.
func ParseSignature(text string) (Signature, error) {
	s, err := parseSignature(text)
	if err != nil {
		return Signature{}, status.New(status.InvalidArgument, opSignature, "%v", err)
	}
	return s, nil
}

func parseSignature(text string) (Signature, error) {
	switch {
	case len(text) > maxText:
		return Signature{}, syntax(1, "the signature has %d bytes; at most %d are read", len(text), maxText)
	case !utf8.ValidString(text):
		return Signature{}, syntax(1, "the signature is not valid UTF-8")
	case strings.TrimSpace(text) == "":
		return Signature{}, syntax(1, "the signature is empty; write inputs -> outputs, such as \"question -> answer\"")
	}
	p := parser{scanner: scanner{rest: text, at: 1}}
	s, err := p.signature()
	if err != nil {
		return Signature{}, err
	}
	// Names are checked last, so that a mistake in the text is reported as one.
	for i := range s.Fields {
		if err := checkField(s.Fields, i, Module{}); err != nil {
			return Signature{}, syntax(p.starts[i], "%v", err)
		}
	}
	return s, nil
}

type parser struct {
	scanner
	token  token
	starts []int // where each field starts
}

func (p *parser) advance() *syntaxError {
	var err *syntaxError
	p.token, err = p.next()
	return err
}

func (p *parser) is(mark string) bool { return p.token.kind == tokenMark && p.token.text == mark }

// signature reads the whole text.
func (p *parser) signature() (Signature, error) {
	var s Signature
	if err := p.read(&s); err != nil {
		return Signature{}, err
	}
	return s, nil
}

func (p *parser) read(s *Signature) *syntaxError {
	if err := p.advance(); err != nil {
		return err
	}
	if !p.is("->") {
		if err := p.fields(s, Input); err != nil {
			return err
		}
	}
	if !p.is("->") {
		return syntax(p.token.at, "expected \",\" or \"->\", found %v; write inputs -> outputs, such as \"question -> answer\"", p.token)
	}
	if err := p.advance(); err != nil {
		return err
	}
	if p.token.kind == tokenEnd {
		return syntax(p.token.at, "there is no output field; name at least one after \"->\"")
	}
	if err := p.fields(s, Output); err != nil {
		return err
	}
	if p.is("->") {
		return syntax(p.token.at, "there is a second \"->\"; a signature has one")
	}
	if p.token.kind != tokenEnd {
		return syntax(p.token.at, "expected \",\" or the end, found %v", p.token)
	}
	return nil
}

// fields reads fields of one kind until a token that is no comma.
func (p *parser) fields(s *Signature, kind Kind) *syntaxError {
	for {
		if p.token.kind != tokenName {
			return syntax(p.token.at, "expected the name of an %s field, found %v", kind, p.token)
		}
		if len(s.Fields) == maxFields {
			return syntax(p.token.at, "there are more than %d fields", maxFields)
		}
		p.starts = append(p.starts, p.token.at)
		f := Field{Name: p.token.text, Kind: kind, Schema: Schema{Type: typeString}}
		if err := p.advance(); err != nil {
			return err
		}
		if p.is(":") {
			if err := p.advance(); err != nil {
				return err
			}
			t, err := p.union(f.Name, 0)
			if err != nil {
				return err
			}
			f.Schema = *t
		}
		s.Fields = append(s.Fields, f)
		if !p.is(",") {
			return nil
		}
		if err := p.advance(); err != nil {
			return err
		}
	}
}
