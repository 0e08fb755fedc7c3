package lm

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"unicode/utf8"
)

// writer appends JSON to b. The first error sticks.
type writer struct {
	b   []byte
	err error
}

// sep writes the comma before an element or a key, unless it is the first.
func (w *writer) sep() {
	if n := len(w.b); n > 0 {
		switch w.b[n-1] {
		case '{', '[', ':':
			return
		}
	}
	w.b = append(w.b, ',')
}

func (w *writer) open(c byte)  { w.b = append(w.b, c) }
func (w *writer) close(c byte) { w.b = append(w.b, c) }

// key starts a member of an object; k needs no escapes.
func (w *writer) key(k string) {
	w.sep()
	w.b = append(w.b, '"')
	w.b = append(w.b, k...)
	w.b = append(w.b, '"', ':')
}

// str writes a member, also when it is empty.
func (w *writer) str(k, s string) {
	w.key(k)
	w.value(s)
}

// optStr writes a member unless it is empty.
func (w *writer) optStr(k, s string) {
	if s != "" {
		w.str(k, s)
	}
}

func (w *writer) strPtr(k string, s *string) {
	if s != nil {
		w.str(k, *s)
	}
}

func (w *writer) strs(k string, list []string) {
	if len(list) == 0 {
		return
	}
	w.key(k)
	w.open('[')
	for _, s := range list {
		w.sep()
		w.value(s)
	}
	w.close(']')
}

func (w *writer) int(k string, n int64) {
	w.key(k)
	w.b = strconv.AppendInt(w.b, n, 10)
}

func (w *writer) intPtr(k string, n *int) {
	if n != nil {
		w.int(k, int64(*n))
	}
}

func (w *writer) bool(k string, v bool) {
	w.key(k)
	w.b = strconv.AppendBool(w.b, v)
}

func (w *writer) boolPtr(k string, v *bool) {
	if v != nil {
		w.bool(k, *v)
	}
}

func (w *writer) float(k string, f float64) {
	w.key(k)
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.fail(errors.New("lm: JSON has no form for the number of " + k))
		return
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	w.b = strconv.AppendFloat(w.b, f, format, -1, 64)
}

func (w *writer) floatPtr(k string, f *float64) {
	if f != nil {
		w.float(k, *f)
	}
}

// raw writes a member that is JSON already. It checks it, because one broken value
// would make the whole text unreadable.
func (w *writer) raw(k string, m json.RawMessage) {
	w.key(k)
	r := reader{b: m}
	err := r.skip()
	if err == nil {
		err = r.end()
	}
	if err != nil {
		w.fail(errors.New("lm: the value of " + k + " is not JSON"))
		return
	}
	w.b = append(w.b, m...)
}

func (w *writer) optRaw(k string, m json.RawMessage) {
	if len(m) > 0 {
		w.raw(k, m)
	}
}

// optObject writes a member unless the object is missing or has no members.
func (w *writer) optObject(k string, m json.RawMessage) {
	r := reader{b: m}
	if r.null() {
		return
	}
	if r.peek() == '{' {
		if r.i++; r.peek() == '}' {
			return
		}
	}
	w.optRaw(k, m)
}

func (w *writer) fail(err error) {
	if w.err == nil {
		w.err = err
	}
}

const hexDigits = "0123456789abcdef"

// value writes a string. Bytes that are no UTF-8 become U+FFFD.
func (w *writer) value(s string) {
	b := append(w.b, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRuneInString(s[i:])
			if r == utf8.RuneError && size == 1 {
				b = append(append(b, s[start:i]...), "\ufffd"...)
				start = i + 1
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' {
			i++
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
		i++
		start = i
	}
	b = append(b, s[start:]...)
	w.b = append(b, '"')
}
