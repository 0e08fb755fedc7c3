package status

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dspex/dspex/lm"
)

// ErrClosed matches, with errors.Is, every Error whose code is [Closed].
var ErrClosed = errors.New("dspex: closed")

// Error is the only error type that dspex returns.
type Error struct {
	// Code is the kind of failure.
	Code Code
	// Op is what was being done: "open", "run", "setup", ….
	Op string
	// Message is one line: what happened, to what, and what to do.
	Message string
	// Worker is the id of the worker concerned, if any.
	Worker string
	// Epoch is, with [SessionLost], which epoch of the hard session is over: the first
	// is 1.
	Epoch uint64
	// Remote is true when the failure was reported by a worker.
	Remote bool
	// Retryable is true when the same call may succeed later.
	Retryable bool
	// RetryAfter is a hint how long to wait before trying again; zero means no hint.
	RetryAfter time.Duration
	// Python describes the Python exception, if one was raised.
	Python *PythonError
	// Usage is what the failed call cost.
	Usage lm.Usage
	// Calls lists every LM attempt that the failed call made.
	Calls []lm.Call
	// Completion is the model's last answer, when it was the cause.
	Completion string
	// Err is the cause.
	Err error
}

// New returns an Error made at the place where its cause is known.
func New(code Code, op, format string, args ...any) *Error {
	return &Error{Code: code, Op: op, Message: fmt.Sprintf(format, args...)}
}

// Wrap returns an Error with a cause.
func Wrap(code Code, op string, err error, format string, args ...any) *Error {
	return &Error{Code: code, Op: op, Message: fmt.Sprintf(format, args...), Err: err}
}

// Error returns one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("dspex: ")
	if e.Op != "" {
		b.WriteString(e.Op)
		b.WriteString(": ")
	}
	b.WriteString(e.Code.String())
	if e.Message != "" {
		b.WriteString(": ")
		b.WriteString(e.Message)
	} else if e.Err != nil {
		b.WriteString(": ")
		b.WriteString(e.Err.Error())
	}
	return b.String()
}

// Unwrap returns the causes, so that errors.As reaches *lm.Error and *PythonError.
func (e *Error) Unwrap() []error {
	var causes []error
	if e.Err != nil {
		causes = append(causes, e.Err)
	}
	if e.Python != nil {
		causes = append(causes, e.Python)
	}
	return causes
}

// Is makes errors.Is match the sentinel errors that a code stands for:
// context.Canceled, context.DeadlineExceeded and ErrClosed.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case Canceled:
		return target == context.Canceled
	case DeadlineExceeded:
		return target == context.DeadlineExceeded
	case Closed:
		return target == ErrClosed
	default:
		return false
	}
}

// CodeOf returns the code of err: that of the first *Error in its tree, Canceled or
// DeadlineExceeded for the context's own errors, Internal for anything else, 0 for nil.
func CodeOf(err error) Code {
	var e *Error
	switch {
	case err == nil:
		return 0
	case errors.As(err, &e):
		return e.Code
	case errors.Is(err, context.Canceled):
		return Canceled
	case errors.Is(err, context.DeadlineExceeded):
		return DeadlineExceeded
	default:
		return Internal
	}
}

// FromContext returns the Error for an ended context: DeadlineExceeded or Canceled,
// with the context's cause as cause.
func FromContext(ctx context.Context, op, message string) *Error {
	code := Canceled
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		code = DeadlineExceeded
	}
	return &Error{Code: code, Op: op, Message: message, Err: context.Cause(ctx)}
}

// PythonError describes an exception that was raised in a worker.
type PythonError struct {
	// Type is the qualified name of the exception's class, such as "builtins.ValueError".
	Type string `json:"type"`
	// MRO lists the qualified names of its base classes, nearest first.
	MRO []string `json:"mro,omitempty"`
	// Message is the exception's text.
	Message string `json:"message"`
	// Traceback is Python's own, several lines.
	Traceback string `json:"traceback,omitempty"`
	// Stderr holds the last lines the worker wrote to its standard error.
	Stderr []string `json:"stderr,omitempty"`
}

// Error returns one line: the type and the message.
func (e *PythonError) Error() string {
	return e.Type + ": " + e.Message
}
