package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// strict returns why JSON text would not be read as it was meant: encoding/json replaces
// what is not Unicode, and takes the last of several values with one name.
func strict(text []byte) error {
	if !utf8.Valid(text) {
		return errors.New("it is not UTF-8")
	}
	if half := loneSurrogate(text); half != "" {
		return fmt.Errorf("%s is half a character", half)
	}
	return unique(json.NewDecoder(bytes.NewReader(text)))
}

// loneSurrogate returns the first escape of half a character that has no other half.
func loneSurrogate(text []byte) string {
	// An escaped backslash begins no escape; it is matched so that it is passed over.
	escapes := regexp.MustCompile(`\\(?:u([0-9a-fA-F]{4})|.)`)
	high, at := "", 0
	for _, m := range escapes.FindAllSubmatchIndex(text, -1) {
		var unit rune
		if m[2] >= 0 {
			n, _ := strconv.ParseUint(string(text[m[2]:m[3]]), 16, 16) // four hex digits
			unit = rune(n)
		}
		low := unit >= 0xDC00 && unit < 0xE000
		switch {
		case high != "" && low && at == m[0]:
			high = ""
			continue
		case high != "":
			return high
		case low:
			return string(text[m[0]:m[1]])
		case utf16.IsSurrogate(unit):
			high, at = string(text[m[0]:m[1]]), m[1]
		}
	}
	return high
}

// unique reads one JSON value and reports a name that an object has twice. What is not
// JSON is left to whoever reads the value.
func unique(d *json.Decoder) error {
	d.UseNumber()
	token, err := d.Token()
	if err != nil {
		return nil //nolint:nilerr // see above
	}
	delim, _ := token.(json.Delim)
	if delim != '{' && delim != '[' {
		return nil
	}
	seen := make(map[string]bool)
	for d.More() {
		if delim == '{' {
			token, err := d.Token()
			name, ok := token.(string)
			if err != nil || !ok {
				return nil //nolint:nilerr // see above
			}
			if seen[name] {
				return fmt.Errorf("%q is there twice", name)
			}
			seen[name] = true
		}
		if err := unique(d); err != nil {
			return err
		}
	}
	_, _ = d.Token() // the end of the object or list
	return nil
}

// sink is standard output that remembers its first failure, so that a result which did
// not arrive is not reported as one.
type sink struct {
	w   io.Writer
	err error
}

func (s *sink) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	if err != nil && s.err == nil {
		s.err = err
	}
	return n, err
}
