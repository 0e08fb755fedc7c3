package lm

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
)

// maxDepth bounds the nesting of JSON, so that hostile input cannot exhaust the stack.
// It is the limit of Python's own parser in DSPy's process.
const maxDepth = 500

// reader decodes JSON in one pass. It exists because the canonical types are on
// the path of every call, and a reader that knows them does a fraction of the work
// that reflection does. Readers of single values leave their target alone on null.
type reader struct {
	b     []byte
	i     int
	depth int
}

func (r *reader) errorf(format string, args ...any) error {
	return fmt.Errorf("lm: JSON at byte %d: %s", r.i, fmt.Sprintf(format, args...))
}

// peek skips white space and returns the next byte, 0 at the end.
func (r *reader) peek() byte {
	for r.i < len(r.b) {
		switch c := r.b[r.i]; c {
		case ' ', '\t', '\n', '\r':
			r.i++
		default:
			return c
		}
	}
	return 0
}

func (r *reader) expect(c byte) error {
	if r.peek() != c || r.i >= len(r.b) {
		return r.unexpected(fmt.Sprintf("%q", c))
	}
	r.i++
	return nil
}

func (r *reader) unexpected(want string) error {
	if r.i >= len(r.b) {
		return r.errorf("the text ends where %s should be", want)
	}
	return r.errorf("%q where %s should be", r.b[r.i], want)
}

// end fails unless nothing but white space is left.
func (r *reader) end() error {
	if r.peek(); r.i < len(r.b) {
		return r.errorf("text after the value")
	}
	return nil
}

func (r *reader) word(w string) bool {
	if len(r.b)-r.i >= len(w) && string(r.b[r.i:r.i+len(w)]) == w {
		r.i += len(w)
		return true
	}
	return false
}

// null consumes a null, if that is what comes next.
func (r *reader) null() bool { return r.peek() == 'n' && r.word("null") }

func (r *reader) enter() error {
	if r.depth++; r.depth > maxDepth {
		return r.errorf("nested more than %d deep", maxDepth)
	}
	return nil
}

// object calls field for each key; field has to consume the value.
func (r *reader) object(field func(key []byte) error) error {
	if r.null() {
		return nil
	}
	if err := r.expect('{'); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	for first := true; ; first = false {
		switch c := r.peek(); {
		case c == '}' && first:
			r.i++
			r.depth--
			return nil
		case c != '"':
			return r.unexpected("a key")
		}
		key, err := r.stringBytes()
		if err != nil {
			return err
		}
		if err := r.expect(':'); err != nil {
			return err
		}
		if err := field(key); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.i++
		case '}':
			r.i++
			r.depth--
			return nil
		default:
			return r.unexpected("',' or '}'")
		}
	}
}

// array calls elem for each element; elem has to consume it.
func (r *reader) array(elem func() error) error {
	if r.null() {
		return nil
	}
	if err := r.expect('['); err != nil {
		return err
	}
	if err := r.enter(); err != nil {
		return err
	}
	if r.peek() == ']' {
		r.i++
		r.depth--
		return nil
	}
	for {
		if err := elem(); err != nil {
			return err
		}
		switch r.peek() {
		case ',':
			r.i++
		case ']':
			r.i++
			r.depth--
			return nil
		default:
			return r.unexpected("',' or ']'")
		}
	}
}

func (r *reader) boolean(dst *bool) error {
	switch r.peek() {
	case 't':
		if r.word("true") {
			*dst = true
			return nil
		}
	case 'f':
		if r.word("false") {
			*dst = false
			return nil
		}
	case 'n':
		if r.word("null") {
			return nil
		}
	}
	return r.unexpected("true or false")
}

func (r *reader) boolPtr(dst **bool) error {
	if r.null() {
		return nil
	}
	*dst = new(bool)
	return r.boolean(*dst)
}

// number returns the bytes of a number.
func (r *reader) number() ([]byte, error) {
	r.peek()
	start := r.i
	if r.i < len(r.b) && r.b[r.i] == '-' {
		r.i++
	}
	switch {
	case r.i < len(r.b) && r.b[r.i] == '0':
		r.i++
	default:
		if !r.digits() {
			return nil, r.unexpected("a number")
		}
	}
	if r.i < len(r.b) && r.b[r.i] == '.' {
		r.i++
		if !r.digits() {
			return nil, r.unexpected("a digit")
		}
	}
	if r.i < len(r.b) && (r.b[r.i] == 'e' || r.b[r.i] == 'E') {
		r.i++
		if r.i < len(r.b) && (r.b[r.i] == '+' || r.b[r.i] == '-') {
			r.i++
		}
		if !r.digits() {
			return nil, r.unexpected("a digit")
		}
	}
	return r.b[start:r.i], nil
}

func (r *reader) digits() bool {
	start := r.i
	for r.i < len(r.b) && r.b[r.i] >= '0' && r.b[r.i] <= '9' {
		r.i++
	}
	return r.i > start
}

func (r *reader) float(dst *float64) error {
	if r.null() {
		return nil
	}
	n, err := r.number()
	if err != nil {
		return err
	}
	if *dst, err = strconv.ParseFloat(string(n), 64); err != nil {
		return r.errorf("the number %s is out of range", n)
	}
	return nil
}

func (r *reader) floatPtr(dst **float64) error {
	if r.null() {
		return nil
	}
	*dst = new(float64)
	return r.float(*dst)
}

// integer reads a whole number; as in DSPy it may be written as a float.
func (r *reader) integer(dst *int64) error {
	if r.null() {
		return nil
	}
	n, err := r.number()
	if err != nil {
		return err
	}
	if *dst, err = strconv.ParseInt(string(n), 10, 64); err == nil {
		return nil
	}
	f, err := strconv.ParseFloat(string(n), 64)
	if err != nil || f != math.Trunc(f) || math.Abs(f) >= 1<<63 {
		return r.errorf("%s where a whole number of at most 64 bits should be", n)
	}
	*dst = int64(f)
	return nil
}

func (r *reader) int64Ptr(dst **int64) error {
	if r.null() {
		return nil
	}
	*dst = new(int64)
	return r.integer(*dst)
}

func (r *reader) intPtr(dst **int) error {
	if r.null() {
		return nil
	}
	var n int64
	if err := r.integer(&n); err != nil {
		return err
	}
	*dst = new(int(n))
	return nil
}

// raw copies any value as it is.
func (r *reader) raw(dst *json.RawMessage) error {
	r.peek()
	start := r.i
	if err := r.skip(); err != nil {
		return err
	}
	*dst = append((*dst)[:0:0], r.b[start:r.i]...)
	return nil
}

// rawObject copies a JSON object as it is; null leaves dst alone.
func (r *reader) rawObject(dst *json.RawMessage) error {
	if r.null() {
		return nil
	}
	if r.peek() != '{' {
		return r.unexpected("an object")
	}
	return r.raw(dst)
}

// skip consumes any value.
func (r *reader) skip() error {
	switch c := r.peek(); c {
	case '{':
		return r.object(func([]byte) error { return r.skip() })
	case '[':
		return r.array(r.skip)
	case '"':
		_, err := r.stringBytes()
		return err
	case 't', 'f':
		var b bool
		return r.boolean(&b)
	case 'n':
		if r.null() {
			return nil
		}
		return r.unexpected("a value")
	default:
		if c == '-' || c >= '0' && c <= '9' {
			_, err := r.number()
			return err
		}
		return r.unexpected("a value")
	}
}
