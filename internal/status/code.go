// Package status holds the one error type of dspex and its closed set of codes.
// The root package re-exports both by alias.
package status

import "fmt"

// Code says what kind of failure an [Error] is. The set is closed.
type Code uint8

// The codes, with who can do something about each.
const (
	// InvalidArgument means that the caller gave something that cannot be used.
	InvalidArgument Code = iota + 1
	// InvalidProgram means that a program cannot be built from its declaration.
	InvalidProgram
	// ParseFailed means that the model's answer could not be read as the program's outputs.
	ParseFailed
	// InvalidOutput means that the model's answer was read but breaks a constraint.
	InvalidOutput
	// LM means that a language model call failed; errors.As reaches *lm.Error.
	LM
	// BudgetExceeded means that a budget was used up.
	BudgetExceeded
	// Tool means that a tool aborted the call.
	Tool
	// Python means that the user's own Python code failed.
	Python
	// Overloaded means that the queue is full; try again after RetryAfter.
	Overloaded
	// DeadlineExceeded means that the caller's deadline passed.
	DeadlineExceeded
	// Canceled means that the caller canceled.
	Canceled
	// WorkerLost means that the worker died while it ran the call.
	WorkerLost
	// SessionLost means that a hard session lost the worker that held its state.
	SessionLost
	// Unavailable means that the system cannot serve now; the message says why.
	Unavailable
	// Closed means that the Runtime is closed.
	Closed
	// Unsupported means that the platform or a component cannot do this.
	Unsupported
	// Internal means a defect in dspex.
	Internal
)

var names = [...]string{ //nolint:gochecknoglobals // a fixed table
	InvalidArgument:  "invalid_argument",
	InvalidProgram:   "invalid_program",
	ParseFailed:      "parse_failed",
	InvalidOutput:    "invalid_output",
	LM:               "lm",
	BudgetExceeded:   "budget_exceeded",
	Tool:             "tool",
	Python:           "python",
	Overloaded:       "overloaded",
	DeadlineExceeded: "deadline_exceeded",
	Canceled:         "canceled",
	WorkerLost:       "worker_lost",
	SessionLost:      "session_lost",
	Unavailable:      "unavailable",
	Closed:           "closed",
	Unsupported:      "unsupported",
	Internal:         "internal",
}

// String returns the code's text form, such as "invalid_argument".
func (c Code) String() string {
	if c >= InvalidArgument && int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("code_%d", uint8(c))
}

// MarshalText returns the text form. It fails for a value outside the set.
func (c Code) MarshalText() ([]byte, error) {
	if c < InvalidArgument || int(c) >= len(names) {
		return nil, fmt.Errorf("status: %d is not a code", uint8(c))
	}
	return []byte(names[c]), nil
}

// UnmarshalText reads the text form.
func (c *Code) UnmarshalText(text []byte) error {
	for i := InvalidArgument; int(i) < len(names); i++ {
		if names[i] == string(text) {
			*c = i
			return nil
		}
	}
	return fmt.Errorf("status: %q is not a code", text)
}
