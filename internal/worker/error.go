package worker

import (
	"encoding/json"
	"strings"
	"time"
	"unicode"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/lm"
)

// remoteError is the payload of an ERROR that Python answered.
type remoteError struct {
	Code       string              `json:"code"`
	Message    string              `json:"message"`
	Python     *status.PythonError `json:"python"`
	LM         *remoteLM           `json:"lm"`
	Completion string              `json:"completion"`
	Ref        uint64              `json:"ref"`
}

// remoteLM describes the failure of a language model as DSPy saw it.
type remoteLM struct {
	Kind         string  `json:"kind"`
	Status       int     `json:"status"`
	RetryAfter   float64 `json:"retry_after"` // seconds
	RequestID    string  `json:"request_id"`
	Provider     string  `json:"provider"`
	ProviderCode string  `json:"provider_code"`
}

// decode turns an ERROR payload into the error that the caller gets. The Go error that
// caused it, if Python gives a reference to one, becomes its cause.
func (w *Worker) decode(c Call, remote *wire.RemoteError) error {
	e := &status.Error{Op: opOf(c.Method), Worker: w.o.ID, Remote: true}
	var body remoteError
	if err := json.Unmarshal(remote.Payload, &body); err != nil {
		e.Code, e.Err = status.Internal, err
		e.Message = "the worker answered an error that cannot be read: " + remote.Error()
		return e
	}
	e.Message = oneLine(body.Message)
	if err := e.Code.UnmarshalText([]byte(body.Code)); err != nil {
		e.Code = status.Internal
		e.Message = remote.Error()
	}
	e.Python = body.Python
	e.Completion = body.Completion
	if e.Python != nil && e.Code == status.Python {
		e.Python.Stderr = w.proc.Tail()
	}
	if body.Ref != 0 && c.Resolve != nil {
		e.Err = c.Resolve(body.Ref)
	}
	if e.Code == status.LM {
		fillLM(e, &body)
	}
	return e
}

// fillLM gives an error of code lm its *lm.Error and what follows from it.
func fillLM(e *status.Error, body *remoteError) {
	if body.LM == nil {
		return
	}
	var kind lm.Kind
	if err := kind.UnmarshalText([]byte(body.LM.Kind)); err != nil {
		kind = lm.KindUnexpected
	}
	failure := &lm.Error{
		Kind:       kind,
		Message:    body.Message,
		Provider:   body.LM.Provider,
		Status:     body.LM.Status,
		Code:       body.LM.ProviderCode,
		RequestID:  body.LM.RequestID,
		RetryAfter: time.Duration(body.LM.RetryAfter * float64(time.Second)),
	}
	e.Retryable = failure.Retryable()
	e.RetryAfter = failure.RetryAfter
	if e.Err == nil {
		e.Err = failure
	}
}

// oneLine makes one line of a message that may be a whole completion: white space is
// collapsed, and what is long is cut. The whole is in the Python error.
func oneLine(message string) string {
	const limit = 400 // About five lines of a terminal: enough to recognise what was said.
	printable := strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return ' ' // Also what a terminal would take for a command.
	}, message)
	line := strings.Join(strings.Fields(printable), " ")
	if len(line) <= limit {
		return line
	}
	return strings.ToValidUTF8(line[:limit], "") + " …"
}
