package spec

import (
	"fmt"
	"strconv"
)

// fault says what is wrong with a value or a type, and where. The path grows from the
// inside out while the fault travels up, so that a value without faults costs no path.
type fault struct {
	path    string
	message string
}

func faultf(format string, args ...any) *fault {
	return &fault{message: fmt.Sprintf(format, args...)}
}

// Error returns the path and the message.
func (f *fault) Error() string {
	if f.path == "" {
		return f.message
	}
	return f.path + ": " + f.message
}

// in returns the fault seen from the value that holds the named part.
func (f *fault) in(name string) *fault {
	switch {
	case f.path == "" || f.path[0] == '[':
		f.path = name + f.path
	default:
		f.path = name + "." + f.path
	}
	return f
}

func (f *fault) at(index int) *fault { return f.inBrackets(strconv.Itoa(index)) }

func (f *fault) key(key string) *fault { return f.inBrackets(strconv.Quote(oneLine(key))) }

func (f *fault) inBrackets(text string) *fault {
	if f.path != "" && f.path[0] != '[' {
		f.path = "." + f.path
	}
	f.path = "[" + text + "]" + f.path
	return f
}
