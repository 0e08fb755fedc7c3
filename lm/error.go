package lm

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Kind says what kind of failure an [Error] is. The set is closed; the text forms
// are DSPy's error codes.
type Kind uint8

// The kinds.
const (
	// KindRateLimit means that the provider wants fewer requests. Retryable.
	KindRateLimit Kind = iota + 1
	// KindTimeout means that the provider, or the wait for it, took too long. Retryable.
	KindTimeout
	// KindServer means that the provider failed. Retryable.
	KindServer
	// KindTransport means that the provider was not reached, or the connection
	// broke. Retryable.
	KindTransport
	// KindContextLength means that the request is longer than the model can take.
	KindContextLength
	// KindAuth means that the provider refused the credentials.
	KindAuth
	// KindBilling means that the account has no means left.
	KindBilling
	// KindInvalidRequest means that the provider refused the request as wrong.
	KindInvalidRequest
	// KindUnsupportedModel means that the provider does not have the model.
	KindUnsupportedModel
	// KindUnsupportedFeature means that the request asks for something that the
	// model or its protocol cannot carry; nothing was sent.
	KindUnsupportedFeature
	// KindProvider means any other error, or an answer that cannot be understood,
	// from the provider.
	KindProvider
	// KindNotConfigured means that a key or another setting is missing; nothing was
	// sent.
	KindNotConfigured
	// KindUnexpected means a defect: something failed in a way nobody foresaw.
	KindUnexpected
)

var kinds = [...]string{ //nolint:gochecknoglobals // a constant table
	KindRateLimit:          "rate_limit",
	KindTimeout:            "timeout",
	KindServer:             "server",
	KindTransport:          "transport",
	KindContextLength:      "context_length",
	KindAuth:               "auth",
	KindBilling:            "billing",
	KindInvalidRequest:     "invalid_request",
	KindUnsupportedModel:   "unsupported_model",
	KindUnsupportedFeature: "unsupported_feature",
	KindProvider:           "provider",
	KindNotConfigured:      "not_configured",
	KindUnexpected:         "unexpected",
}

// String returns the kind's text form, such as "rate_limit".
func (k Kind) String() string {
	if k >= KindRateLimit && int(k) < len(kinds) {
		return kinds[k]
	}
	return fmt.Sprintf("kind_%d", uint8(k))
}

// MarshalText returns the text form. It fails for a value outside the set.
func (k Kind) MarshalText() ([]byte, error) {
	if k < KindRateLimit || int(k) >= len(kinds) {
		return nil, fmt.Errorf("lm: %d is not a kind of error", uint8(k))
	}
	return []byte(kinds[k]), nil
}

// UnmarshalText reads the text form.
func (k *Kind) UnmarshalText(text []byte) error {
	for i := KindRateLimit; int(i) < len(kinds); i++ {
		if kinds[i] == string(text) {
			*k = i
			return nil
		}
	}
	return fmt.Errorf("lm: %q is not a kind of error", text)
}

// Retryable reports whether the same request may succeed later.
func (k Kind) Retryable() bool {
	switch k {
	case KindRateLimit, KindTimeout, KindServer, KindTransport:
		return true
	default:
		return false
	}
}

// Error is how a [Model] fails. Its text never contains a key: providers remove
// theirs from what they pass on.
type Error struct {
	Kind Kind
	// Message says what happened and, where something can be done, what to do.
	Message string
	// Provider names the provider, such as "openai".
	Provider string
	// Status is the HTTP status, 0 when there was no HTTP answer.
	Status int
	// Code is the provider's own error code, such as "insufficient_quota".
	Code string
	// RequestID is the provider's identifier of the call.
	RequestID string
	// RetryAfter is how long the provider asks to wait; 0 means that it did not say.
	RetryAfter time.Duration
	// Err is the cause, if there is one in Go.
	Err error
}

// Errorf returns an Error of the given kind.
func Errorf(kind Kind, provider, format string, args ...any) *Error {
	return &Error{Kind: kind, Provider: provider, Message: fmt.Sprintf(format, args...)}
}

// Error returns one line.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("lm: ")
	if e.Provider != "" {
		b.WriteString(e.Provider)
		b.WriteString(": ")
	}
	b.WriteString(e.Kind.String())
	switch {
	case e.Message != "":
		b.WriteString(": ")
		b.WriteString(oneLine(e.Message))
	case e.Err != nil:
		b.WriteString(": ")
		b.WriteString(oneLine(e.Err.Error()))
	}
	var notes []string
	if e.Status != 0 {
		notes = append(notes, fmt.Sprintf("status %d", e.Status))
	}
	if e.Code != "" {
		notes = append(notes, e.Code)
	}
	if e.RequestID != "" {
		notes = append(notes, "request "+e.RequestID)
	}
	if e.RetryAfter > 0 {
		notes = append(notes, "retry after "+e.RetryAfter.String())
	}
	if len(notes) > 0 {
		b.WriteString(" (")
		b.WriteString(strings.Join(notes, ", "))
		b.WriteByte(')')
	}
	return b.String()
}

// oneLine joins the lines of s, so that an error stays one line in a log.
func oneLine(s string) string {
	if !strings.ContainsAny(s, "\r\n") {
		return s
	}
	return strings.Join(strings.Fields(s), " ")
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same request may succeed later.
func (e *Error) Retryable() bool { return e.Kind.Retryable() }

// KindOf returns the kind of the first *Error in err's tree, or 0 when there is none.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return 0
}
