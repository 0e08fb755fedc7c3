package lm

import (
	"encoding/json"
	"strings"
)

// FinishReason says why an answer ended.
type FinishReason string

// The reasons.
const (
	FinishStop          FinishReason = "stop"
	FinishLength        FinishReason = "length"
	FinishToolCall      FinishReason = "tool_call"
	FinishContentFilter FinishReason = "content_filter"
	FinishError         FinishReason = "error"
)

// Response is a model's whole answer.
//
// A Response is shared by everything it passes through: whoever wants to change
// one works on a copy.
type Response struct {
	// ID is the provider's, empty when it gave none.
	ID string
	// Model names the model that answered. Required.
	Model string
	// Message is the answer, of RoleAssistant, with at least one part.
	Message      Message
	FinishReason FinishReason
	Usage        Usage
	// Logprobs has one element per token, nil when none were reported.
	Logprobs []TokenLogprob
	// LogprobsIncomplete is true when some of the text has no log-probabilities.
	LogprobsIncomplete bool
	// ProviderData is a JSON object with what the provider said beyond the rest.
	ProviderData json.RawMessage
	// Adaptations lists where the provider got something other than what was asked.
	Adaptations []Adaptation
}

// Text returns the answer's text as DSPy's adapters see it: the text parts, and
// data parts as JSON, joined without a separator.
func (r *Response) Text() string {
	parts := r.Message.Parts
	if len(parts) == 1 && parts[0].Type == PartText {
		return parts[0].Text
	}
	var b strings.Builder
	for i := range parts {
		switch {
		case parts[i].Type == PartText:
			b.WriteString(parts[i].Text)
		case parts[i].Type == PartData && parts[i].Data != nil:
			b.Write(parts[i].Data.Value)
		}
	}
	return b.String()
}

// ToolCalls returns the tool calls of the answer, in order.
func (r *Response) ToolCalls() []*ToolCall {
	var calls []*ToolCall
	for i := range r.Message.Parts {
		if c := r.Message.Parts[i].ToolCall; c != nil {
			calls = append(calls, c)
		}
	}
	return calls
}

// Logprob is a token and its natural log-probability.
type Logprob struct {
	Token   string
	Logprob float64
	// Bytes is the token's UTF-8 text, nil when the provider did not report it.
	Bytes []byte
	// TokenID is the token's number in the vocabulary, nil when not reported.
	TokenID *int
}

// TokenLogprob is a token of an answer and its likeliest alternatives.
type TokenLogprob struct {
	Logprob
	Top []Logprob
}

// Adaptation records one thing that the provider got other than as asked.
type Adaptation struct {
	// Field is the path of the setting, such as "config.seed".
	Field string
	// Action is "dropped", "clamped", "substituted", "client_side", "satisfied" or
	// "defaulted".
	Action string
	// Reason is one sentence.
	Reason string
	// Asked and Applied are JSON values; nil when there is none.
	Asked   json.RawMessage
	Applied json.RawMessage
}
