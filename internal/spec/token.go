package spec

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// token is one piece of a signature's text.
type token struct {
	kind tokenKind
	text string // the name, the digits, the mark, or the string's value
	at   int    // where it starts: characters from the start, counted from 1
}

type tokenKind uint8

const (
	tokenEnd tokenKind = iota
	tokenName
	tokenNumber
	tokenString
	tokenMark // one of -> : , [ ] |
)

func (t token) String() string {
	switch t.kind {
	case tokenEnd:
		return "the end"
	case tokenString:
		return "the string " + quoted(t.text)
	default:
		return quoted(t.text)
	}
}

// syntaxError says where a signature's text is wrong.
type syntaxError struct {
	at      int
	message string
}

func (e *syntaxError) Error() string { return fmt.Sprintf("position %d: %s", e.at, e.message) }

func syntax(at int, format string, args ...any) *syntaxError {
	return &syntaxError{at, fmt.Sprintf(format, args...)}
}

// scanner cuts a signature's text into tokens.
type scanner struct {
	rest string
	at   int
}

func (s *scanner) skip(n int) string {
	text := s.rest[:n]
	s.rest = s.rest[n:]
	s.at += utf8.RuneCountInString(text)
	return text
}

func (s *scanner) next() (token, *syntaxError) {
	s.skip(len(s.rest) - len(strings.TrimLeftFunc(s.rest, unicode.IsSpace)))
	at := s.at
	if s.rest == "" {
		return token{tokenEnd, "", at}, nil
	}
	r, size := utf8.DecodeRuneInString(s.rest)
	switch {
	case strings.HasPrefix(s.rest, "->"):
		return token{tokenMark, s.skip(2), at}, nil
	case strings.ContainsRune(":,[]|", r):
		return token{tokenMark, s.skip(1), at}, nil
	case r == '\'' || r == '"':
		return s.quoted(r)
	case r == '-' || unicode.Is(unicode.Nd, r):
		n := strings.IndexFunc(s.rest[1:], func(r rune) bool { return !isWord(r) && r != '.' })
		if n < 0 {
			n = len(s.rest) - 1
		}
		return token{tokenNumber, s.skip(n + 1), at}, nil
	case isWord(r):
		n := strings.IndexFunc(s.rest, func(r rune) bool { return !isWord(r) && r != '.' })
		if n < 0 {
			n = len(s.rest)
		}
		return token{tokenName, s.skip(n), at}, nil
	default:
		return token{}, syntax(at, "unexpected %q; a signature looks like \"question: str -> answer: str\"",
			s.rest[:size])
	}
}

func isWord(r rune) bool {
	return r == '_' || unicode.IsLetter(r) || unicode.IsMark(r) || unicode.Is(unicode.Nd, r)
}

// quoted reads a Python string literal without a prefix.
func (s *scanner) quoted(quote rune) (token, *syntaxError) {
	at := s.at
	s.skip(1)
	var b strings.Builder
	for s.rest != "" {
		r, size := utf8.DecodeRuneInString(s.rest)
		switch r {
		case quote:
			s.skip(1)
			return token{tokenString, b.String(), at}, nil
		case '\n':
			return token{}, syntax(at, "the string does not end on its line; close it with %c", quote)
		case '\\':
			r, err := s.escape()
			if err != nil {
				return token{}, err
			}
			b.WriteRune(r)
		default:
			b.WriteString(s.skip(size))
		}
	}
	return token{}, syntax(at, "the string does not end; close it with %c", quote)
}

// escape reads one escape of a Python string.
func (s *scanner) escape() (rune, *syntaxError) {
	at := s.at
	s.skip(1)
	if s.rest == "" {
		return 0, syntax(at, "the string ends in a backslash")
	}
	letter, size := utf8.DecodeRuneInString(s.rest)
	s.skip(size)
	var digits int
	switch letter {
	case '\\', '\'', '"':
		return letter, nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'x':
		digits = 2
	case 'u':
		digits = 4
	case 'U':
		digits = 8
	default:
		return 0, syntax(at, `the escape \%c is not known; write \\ for a backslash`, letter)
	}
	if len(s.rest) < digits {
		return 0, syntax(at, `the escape \%c needs %d hexadecimal digits`, letter, digits)
	}
	code, err := strconv.ParseUint(s.rest[:digits], 16, 32)
	if err != nil {
		return 0, syntax(at, `the escape \%c needs %d hexadecimal digits`, letter, digits)
	}
	if code > unicode.MaxRune || !utf8.ValidRune(rune(code)) {
		return 0, syntax(at, `the escape \%c%s is no character`, letter, s.rest[:digits])
	}
	s.skip(digits)
	return rune(code), nil
}
