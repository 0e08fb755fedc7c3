package process

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"sync"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

// refs keeps the Go errors that one call sent into Python, so that an error which comes
// back out is the very error that went in. mu guards errs.
type refs struct {
	mu   sync.Mutex
	errs []error
}

// keep stores err and returns its reference, which is never 0.
func (r *refs) keep(err error) uint64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.errs = append(r.errs, err)
	return uint64(len(r.errs))
}

// find returns the error kept under ref, or nil.
func (r *refs) find(ref uint64) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if ref == 0 || ref > uint64(len(r.errs)) {
		return nil
	}
	return r.errs[ref-1]
}

// outbound is an error on its way into Python.
type outbound struct {
	Code    status.Code `json:"code"`
	Message string      `json:"message"`
	LM      *outboundLM `json:"lm,omitempty"`
	Ref     uint64      `json:"ref"`
}

// outboundLM tells Python which of DSPy's error classes to raise.
type outboundLM struct {
	Kind         lm.Kind `json:"kind"`
	Status       int     `json:"status,omitempty"`
	RetryAfter   float64 `json:"retry_after,omitempty"`
	RequestID    string  `json:"request_id,omitempty"`
	Provider     string  `json:"provider,omitempty"`
	ProviderCode string  `json:"provider_code,omitempty"`
}

// WireError returns the payload of the ERROR frame.
func (o *outbound) WireError() []byte {
	data, err := json.Marshal(o)
	if err != nil { // Only strings and numbers: cannot happen.
		return []byte(`{"code":"internal","message":"an error could not be encoded"}`)
	}
	return data
}

// Error returns the message.
func (o *outbound) Error() string { return o.Message }

// send prepares err for Python and keeps it for the way back. A model's error becomes
// the DSPy error of its kind, which programs may handle; anything else aborts the call.
func (r *refs) send(ctx context.Context, err error) *outbound {
	if ended := ctx.Err(); ended != nil && errors.Is(err, ended) {
		return &outbound{Code: status.CodeOf(ended), Message: err.Error(), Ref: r.keep(err)}
	}
	var e *status.Error
	if errors.As(err, &e) && e.Code != status.LM {
		return &outbound{Code: e.Code, Message: e.Error(), Ref: r.keep(err)}
	}
	// The code says already what the error's own name would say again.
	out := &outbound{Code: status.LM, Message: strings.TrimPrefix(err.Error(), "lm: "), Ref: r.keep(err)}
	var failure *lm.Error
	if !errors.As(err, &failure) {
		out.LM = &outboundLM{Kind: lm.KindUnexpected}
		return out
	}
	out.LM = &outboundLM{
		Kind:         failure.Kind,
		Status:       failure.Status,
		RetryAfter:   failure.RetryAfter.Seconds(),
		RequestID:    failure.RequestID,
		Provider:     failure.Provider,
		ProviderCode: failure.Code,
	}
	return out
}
