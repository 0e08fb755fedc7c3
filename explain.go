package dspex

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/dspex/dspex/internal/nearest"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

// The prompt formats, by the names that settings and options use.
const (
	adapterChat = "chat"
	adapterJSON = "json"
	adapterXML  = "xml"
)

// adapterName returns the prompt format to use: the one asked for, or the model's best.
func adapterName(asked string, capabilities lm.Capabilities) (string, error) {
	known := []string{adapterChat, adapterJSON, adapterXML}
	switch {
	case asked == "" && capabilities.ResponseSchema:
		return adapterJSON, nil
	case asked == "":
		return adapterChat, nil
	case slices.Contains(known, asked):
		return asked, nil
	}
	hint := "use chat, json or xml"
	if near, ok := nearest.Nearest(asked, known); ok {
		hint = "did you mean " + strconv.Quote(near) + "?"
	}
	return "", status.New(status.InvalidArgument, "run", "no adapter is named %q; %s", asked, hint)
}

// explain returns err with what the failed call cost, how long it took and what the model
// said last.
func (g *gateway) explain(err error, took time.Duration) error {
	var e *Error
	if !errors.As(err, &e) {
		return err
	}
	whole := *e
	var last string
	whole.Calls, whole.Usage, last = g.spent()
	if whole.Op == "acquire" { // To the caller the queue is a part of the call.
		whole.Op = "run"
	}
	switch whole.Code {
	case CodeDeadlineExceeded:
		whole.Message = fmt.Sprintf("%s after %v; give it a later deadline or a longer WithTimeout",
			whole.Message, took.Round(time.Millisecond))
	case CodeClosed:
		whole.Message = "the Runtime is closed: " + whole.Message
	default:
	}
	if whole.Code == CodeParseFailed || whole.Code == CodeInvalidOutput {
		if whole.Completion == "" {
			whole.Completion = last
		}
		if n := len(whole.Calls); n > 0 && whole.Calls[n-1].FinishReason == lm.FinishLength {
			whole.Message = "the model's answer was cut off at its token limit; raise it with WithMaxTokens: " + whole.Message
		}
	}
	return &whole
}
