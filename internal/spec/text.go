package spec

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf8"
)

const hexDigits = "0123456789abcdef"

// appendString appends s as a JSON string. It escapes only what JSON requires, so that
// equal strings have equal text; s must be valid UTF-8.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		b = append(b, s[start:i]...)
		switch c {
		case '"', '\\':
			b = append(b, '\\', c)
		case '\n':
			b = append(b, '\\', 'n')
		case '\r':
			b = append(b, '\\', 'r')
		case '\t':
			b = append(b, '\\', 't')
		default:
			b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
		}
		start = i + 1
	}
	b = append(b, s[start:]...)
	return append(b, '"')
}

// appendFloat appends f, which must be finite, so that it reads back as the same float:
// always with a point or an exponent, because Python makes an int of a bare "1".
func appendFloat(b []byte, f float64, bits int) []byte {
	start := len(b)
	format := byte('f')
	if size := math.Abs(f); size != 0 && (size < 1e-6 || size >= 1e21) {
		format = 'e'
	}
	b = strconv.AppendFloat(b, f, format, -1, bits)
	if !bytes.ContainsAny(b[start:], ".e") {
		b = append(b, '.', '0')
	}
	return b
}

// fitsWire reports whether the text of a JSON number keeps its value on the way: workers
// read whole numbers of up to 64 bits exactly and others as finite 64-bit floats.
func fitsWire(number string) bool {
	if strings.ContainsAny(number, ".eE") {
		_, err := strconv.ParseFloat(number, 64)
		return err == nil
	}
	if _, err := strconv.ParseInt(number, 10, 64); err == nil {
		return true
	}
	_, err := strconv.ParseUint(number, 10, 64)
	return err == nil
}

const wideNumber = "%s does not fit in 64 bits, which is what a worker can take; pass it as a string"

// checkText returns why JSON text that was not written here cannot be sent as it is, or
// nil: it would be changed on the way, or the worker could not read it.
func checkText(text []byte) error {
	if !utf8.Valid(text) {
		return fmt.Errorf("the text is not valid UTF-8")
	}
	if err := checkEscapes(text); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	depth := 0
	for d.More() || depth > 0 {
		token, err := d.Token()
		if err != nil {
			return fmt.Errorf("it is not JSON: %w", err)
		}
		switch token := token.(type) {
		case json.Number:
			if !fitsWire(token.String()) {
				return fmt.Errorf(wideNumber, token)
			}
		case json.Delim:
			if token == '{' || token == '[' {
				depth++
			} else {
				depth--
			}
			if depth > maxNesting {
				return fmt.Errorf("it is nested more than %d deep", maxNesting)
			}
		}
	}
	return nil
}

// checkEscapes refuses \u escapes that are half of a surrogate pair: they stand for no
// character, and Go would silently replace them.
func checkEscapes(text []byte) error {
	for i := 0; i < len(text); {
		at := bytes.IndexByte(text[i:], '\\')
		if at < 0 {
			return nil
		}
		i += at
		switch unit, ok := escapeUnit(text[i:]); {
		case !ok:
			i += 2
		case unit >= 0xd800 && unit < 0xdc00:
			low, ok := escapeUnit(text[i+6:])
			if !ok || low < 0xdc00 || low > 0xdfff {
				return fmt.Errorf("the escape %s is half of a surrogate pair, which is no text", text[i:i+6])
			}
			i += 12
		case unit >= 0xdc00 && unit <= 0xdfff:
			return fmt.Errorf("the escape %s is half of a surrogate pair, which is no text", text[i:i+6])
		default:
			i += 6
		}
	}
	return nil
}

// escapeUnit reads a \uXXXX escape at the start of text.
func escapeUnit(text []byte) (uint64, bool) {
	if len(text) < 6 || text[0] != '\\' || text[1] != 'u' {
		return 0, false
	}
	unit, err := strconv.ParseUint(string(text[2:6]), 16, 32)
	return unit, err == nil
}

// oneLine shortens text for an error message.
func oneLine(text string) string {
	const limit = 60
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "\uFFFD")), " ")
	if runes := []rune(text); len(runes) > limit {
		return string(runes[:limit]) + "…"
	}
	return text
}
