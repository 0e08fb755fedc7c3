package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"syscall"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/lm"
)

// The exit codes. After a signal it is 128 and the signal's number, as shells report it.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
	exitSignal  = 128
)

// usageError says that the command was wrong: nothing was tried.
type usageError struct {
	message string
	err     error
}

func (u *usageError) Error() string { return u.message }
func (u *usageError) Unwrap() error { return u.err }

func usagef(format string, args ...any) error {
	return &usageError{message: fmt.Sprintf(format, args...)}
}

// asUsage marks an error that was found by looking at what the user wrote.
func asUsage(err error) error {
	if err == nil {
		return nil
	}
	message := err.Error()
	if e, ok := errors.AsType[*dspex.Error](err); ok {
		message = e.Message // It says it all; the exit code stands for its code.
	}
	return &usageError{message: message, err: err}
}

// reported is a failure whose result has been printed already; only the exit code is left.
type reported struct{ error }

// suggest returns ` (did you mean "…"?)` when one of candidates is close to name, and the
// whole list otherwise.
func suggest(name string, candidates []string) string {
	if near, ok := nearest.Nearest(name, candidates); ok {
		return " (did you mean " + strconv.Quote(near) + "?)"
	}
	return "; known are " + strings.Join(candidates, ", ")
}

// failureJSON is what --json prints for a failure, as the value of "error".
type failureJSON struct {
	Code         dspex.Code         `json:"code"`
	Message      string             `json:"message"`
	Op           string             `json:"op,omitempty"`
	Worker       string             `json:"worker,omitempty"`
	Retryable    bool               `json:"retryable,omitempty"`
	RetryAfterMS int64              `json:"retry_after_ms,omitempty"`
	Python       *dspex.PythonError `json:"python,omitempty"`
	LM           *providerJSON      `json:"lm,omitempty"`
	Completion   string             `json:"completion,omitempty"`
	Usage        *lm.Usage          `json:"usage,omitempty"`
	Calls        []lm.Call          `json:"calls,omitempty"`
}

// providerJSON says what a language model's provider reported.
type providerJSON struct {
	Kind      lm.Kind `json:"kind"`
	Provider  string  `json:"provider,omitempty"`
	Status    int     `json:"status,omitempty"`
	Code      string  `json:"code,omitempty"`
	RequestID string  `json:"request_id,omitempty"`
}

// fail reports err — one line on standard error, with --json also one value on standard
// output — and returns the exit code.
func (a *app) fail(ctx context.Context, err error, asJSON bool) int {
	code := exitFailure
	var (
		usage  *usageError
		signal interrupted
	)
	switch {
	case errors.As(context.Cause(ctx), &signal):
		code = exitSignal + int(signal.signal)
		err = fmt.Errorf("stopped by %s", name(signal.signal))
	case errors.As(err, &usage):
		code = exitUsage
	}
	if _, printed := errors.AsType[reported](err); printed {
		return code
	}
	line := brief(err)
	fmt.Fprintln(a.std.err, "dspex:", line)
	if asJSON {
		a.failJSON(err, line, code)
	}
	return code
}

func (a *app) failJSON(err error, line string, exit int) {
	out := failureJSON{Code: dspex.CodeOf(err), Message: line}
	var e *dspex.Error
	switch {
	case errors.As(err, &e):
		out.Op, out.Worker, out.Retryable = e.Op, e.Worker, e.Retryable
		out.RetryAfterMS = e.RetryAfter.Milliseconds()
		out.Python, out.Completion, out.Calls = e.Python, e.Completion, e.Calls
		if len(e.Calls) > 0 {
			out.Usage = &e.Usage
		}
	case exit == exitUsage:
		out.Code = dspex.CodeInvalidArgument
	case exit > exitSignal:
		out.Code = dspex.CodeCanceled
	}
	if p, ok := errors.AsType[*lm.Error](err); ok {
		out.LM = &providerJSON{p.Kind, p.Provider, p.Status, p.Code, p.RequestID}
		if e == nil {
			out.Code = dspex.CodeLM
		}
	}
	// A failure to print a failure has nowhere to go.
	_ = a.printJSON(map[string]failureJSON{"error": out})
}

// printJSON prints v as one value.
func (a *app) printJSON(v any) error {
	e := json.NewEncoder(a.std.out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func name(s syscall.Signal) string {
	switch s {
	case syscall.SIGINT:
		return "an interrupt"
	case syscall.SIGTERM:
		return "a termination signal"
	default:
		return s.String()
	}
}
