package lm

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// stringBytes returns the content of a string; it may alias the input.
func (r *reader) stringBytes() ([]byte, error) {
	if err := r.expect('"'); err != nil {
		return nil, err
	}
	start, ascii := r.i, true
	for r.i < len(r.b) {
		switch c := r.b[r.i]; {
		case c == '"':
			s := r.b[start:r.i]
			r.i++
			if !ascii && !utf8.Valid(s) {
				return []byte(string([]rune(string(s)))), nil
			}
			return s, nil
		case c == '\\':
			return r.escaped(start)
		case c < ' ':
			return nil, r.errorf("a control character in a string")
		case c >= utf8.RuneSelf:
			ascii = false
			r.i++
		default:
			r.i++
		}
	}
	return nil, r.unexpected("the end of a string")
}

// escaped finishes a string that has escapes; r.i is at the first.
func (r *reader) escaped(start int) ([]byte, error) {
	// Unescaped text is never longer than its escaped form.
	end := bytes.IndexByte(r.b[r.i:], '"')
	for end > 0 && r.b[r.i+end-1] == '\\' {
		next := bytes.IndexByte(r.b[r.i+end+1:], '"')
		if next < 0 {
			break
		}
		end += 1 + next
	}
	out := make([]byte, 0, r.i-start+max(end, 0))
	out = append(out, r.b[start:r.i]...)
	for r.i < len(r.b) {
		c := r.b[r.i]
		switch {
		case c == '"':
			r.i++
			if !utf8.Valid(out) {
				return []byte(string([]rune(string(out)))), nil
			}
			return out, nil
		case c < ' ':
			return nil, r.errorf("a control character in a string")
		case c != '\\':
			from := r.i
			for r.i < len(r.b) && r.b[r.i] != '"' && r.b[r.i] != '\\' && r.b[r.i] >= ' ' {
				r.i++
			}
			out = append(out, r.b[from:r.i]...)
			continue
		}
		var err error
		if out, err = r.escape(out); err != nil {
			return nil, err
		}
	}
	return nil, r.unexpected("the end of a string")
}

// escape reads one escape, at r.i, and appends what it stands for.
func (r *reader) escape(out []byte) ([]byte, error) {
	if r.i+1 >= len(r.b) {
		r.i++
		return nil, r.unexpected("the end of a string")
	}
	switch e := r.b[r.i+1]; e {
	case '"', '\\', '/':
		out = append(out, e)
	case 'b':
		out = append(out, '\b')
	case 'f':
		out = append(out, '\f')
	case 'n':
		out = append(out, '\n')
	case 'r':
		out = append(out, '\r')
	case 't':
		out = append(out, '\t')
	case 'u':
		return r.unicode(out)
	default:
		return nil, r.errorf("an unknown escape %q", e)
	}
	r.i += 2
	return out, nil
}

// unicode reads a \u escape, or two that make up one character. Half of such a pair becomes
// U+FFFD, as in encoding/json.
func (r *reader) unicode(out []byte) ([]byte, error) {
	v := r.hex(r.i + 2)
	if v < 0 {
		return nil, r.errorf("a broken \\u escape")
	}
	r.i += 6
	if utf16.IsSurrogate(v) {
		v2 := rune(-1)
		if r.i+1 < len(r.b) && r.b[r.i] == '\\' && r.b[r.i+1] == 'u' {
			v2 = r.hex(r.i + 2)
		}
		if v = utf16.DecodeRune(v, v2); v != utf8.RuneError {
			r.i += 6
		}
	}
	return utf8.AppendRune(out, v), nil
}

// hex returns the four hexadecimal digits at i, -1 if they are not there.
func (r *reader) hex(i int) rune {
	if i+4 > len(r.b) {
		return -1
	}
	var v rune
	for _, c := range r.b[i : i+4] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return -1
		}
		v = v<<4 | rune(c)
	}
	return v
}

func (r *reader) str(dst *string) error {
	if r.null() {
		return nil
	}
	s, err := r.stringBytes()
	if err != nil {
		return err
	}
	*dst = string(s)
	return nil
}

// strOf reads a string that is most likely one of a few, which then costs no memory.
func strOf[T ~string](r *reader, dst *T, known ...T) error {
	if r.null() {
		return nil
	}
	s, err := r.stringBytes()
	if err != nil {
		return err
	}
	for _, k := range known {
		if string(s) == string(k) {
			*dst = k
			return nil
		}
	}
	*dst = T(s)
	return nil
}

func (r *reader) strPtr(dst **string) error {
	if r.null() {
		return nil
	}
	s, err := r.stringBytes()
	if err != nil {
		return err
	}
	*dst = new(string(s))
	return nil
}

// strs reads a list of strings; DSPy takes a bare string for a list of one.
func (r *reader) strs(dst *[]string) error {
	if r.peek() == '"' {
		*dst = []string{""}
		return r.str(&(*dst)[0])
	}
	return r.array(func() error {
		*dst = append(*dst, "")
		return r.str(&(*dst)[len(*dst)-1])
	})
}
