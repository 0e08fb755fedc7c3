package lm

import (
	"encoding/json"
	"time"
)

// detailHTTP is ErrorDetail.HTTPResponse as far as an Error has a place for it.
type detailHTTP struct {
	RequestID  string  `json:"request_id,omitempty"`
	RetryAfter float64 `json:"retry_after,omitempty"`
}

// Err returns the error that the detail describes. A code that is no [Kind] becomes
// KindUnexpected.
func (d *ErrorDetail) Err(provider string) *Error {
	e := &Error{Message: d.Message, Provider: provider, Code: d.ProviderCode}
	if err := e.Kind.UnmarshalText([]byte(d.Code)); err != nil {
		e.Kind = KindUnexpected
		if e.Code == "" {
			e.Code = d.Code
		}
	}
	var http detailHTTP
	if len(d.HTTPResponse) > 0 && json.Unmarshal(d.HTTPResponse, &http) == nil {
		e.RequestID = http.RequestID
		e.RetryAfter = time.Duration(http.RetryAfter * float64(time.Second))
	}
	return e
}

// Detail describes the error as an error event does. DSPy's events know no
// unexpected errors, nor a status: KindUnexpected becomes "provider".
func (e *Error) Detail() *ErrorDetail {
	d := &ErrorDetail{Code: e.Kind.String(), Message: e.Message, ProviderCode: e.Code}
	if e.Kind == KindUnexpected {
		d.Code = KindProvider.String()
	}
	if d.Message == "" && e.Err != nil {
		d.Message = e.Err.Error()
	}
	http, err := json.Marshal(detailHTTP{RequestID: e.RequestID, RetryAfter: e.RetryAfter.Seconds()})
	if err == nil && len(http) > len("{}") {
		d.HTTPResponse = http
	}
	return d
}
