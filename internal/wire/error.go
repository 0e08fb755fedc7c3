package wire

import (
	"encoding/json"
	"errors"

	"github.com/dspex/dspex/internal/status"
)

// ErrNotSent is a cause in the error of a call that the peer cannot have begun: the connection
// was lost before all of the call was written, or it takes no new calls. Such a call can be made
// elsewhere without being executed twice.
var ErrNotSent = errors.New("the call was not sent")

// RemoteError is an ERROR that the peer answered.
type RemoteError struct {
	// Payload is the JSON that the peer sent, with "code", "message" and further fields.
	Payload []byte
}

type errorBody struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Error returns "code: message".
func (e *RemoteError) Error() string {
	var body errorBody
	if err := json.Unmarshal(e.Payload, &body); err != nil || body.Code == "" {
		return "the peer answered an error that cannot be read: " + string(e.Payload[:min(len(e.Payload), 200)])
	}
	return body.Code + ": " + body.Message
}

// Code returns the payload's "code", "" if it has none.
func (e *RemoteError) Code() string {
	var body errorBody
	if err := json.Unmarshal(e.Payload, &body); err != nil {
		return ""
	}
	return body.Code
}

// errorPayload returns the ERROR payload for an error that a handler returned: the error's own
// WireError if it has one, else its code and message.
func errorPayload(err error, limit int) []byte {
	var own interface{ WireError() []byte }
	if errors.As(err, &own) {
		if payload := own.WireError(); len(payload) <= limit {
			return payload
		}
	}
	body := errorBody{Code: status.CodeOf(err).String(), Message: err.Error()}
	var e *status.Error
	if errors.As(err, &e) && e.Message != "" {
		body.Message = e.Message
	}
	// Escaping makes a byte at most six.
	if most := (limit - 200) / 6; len(body.Message) > most {
		body.Message = body.Message[:most]
	}
	payload, merr := json.Marshal(body)
	if merr != nil { // cannot happen: strings always marshal
		return []byte(`{"code":"internal","message":"the error cannot be encoded"}`)
	}
	return payload
}
