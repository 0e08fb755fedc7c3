package spec

import (
	"bytes"
	"encoding/json"
	"errors"
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

// maxDigits is how long a whole number may be. The worker reads longer ones through a float,
// whose largest value has 309 digits.
const maxDigits = 300

// fitsWire returns why the text of a JSON number would not keep its value on the way, or
// nil. Others than whole numbers are 64-bit floats in a worker. In a request, whole
// numbers may have any size; elsewhere, where wide is false, they have 64 bits.
func fitsWire(number string, wide bool) error {
	if strings.ContainsAny(number, ".eE") {
		if _, err := strconv.ParseFloat(number, 64); err != nil {
			return fmt.Errorf("%s does not fit a 64-bit float; pass it as a string", oneLine(number))
		}
		return nil
	}
	if wide && len(number) <= maxDigits {
		return nil
	}
	if _, err := strconv.ParseInt(number, 10, 64); err == nil {
		return nil
	}
	if _, err := strconv.ParseUint(number, 10, 64); err == nil {
		return nil
	}
	if wide {
		return fmt.Errorf("a whole number of more than %d digits cannot be sent; pass it as a string", maxDigits)
	}
	return fmt.Errorf("%s does not fit in 64 bits; pass it as a string", oneLine(number))
}

// checkText returns why JSON text that was not written here cannot be sent as it is, or
// nil: it would be changed on the way, or the worker could not read it.
func checkText(text []byte, wide bool) error {
	if !utf8.Valid(text) {
		return errors.New("the text is not valid UTF-8")
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
			if err := fitsWire(token.String(), wide); err != nil {
				return err
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
