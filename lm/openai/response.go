package openai

import (
	"encoding/json"
	"fmt"
	"net/http"

	sdk "github.com/openai/openai-go/v3"

	"github.com/dspex/dspex/lm"
)

// response turns a completion into the canonical response.
func (m *Model) response(
	model string, c *sdk.ChatCompletion, answer *http.Response, adaptations []lm.Adaptation,
) (*lm.Response, error) {
	if c == nil || len(c.Choices) == 0 {
		return nil, m.withoutChoices(c, answer)
	}
	choice := &c.Choices[0]
	resp := &lm.Response{
		ID: c.ID, Model: c.Model, Adaptations: adaptations,
		Message:      lm.Message{Role: lm.RoleAssistant},
		Usage:        usage(&c.Usage),
		Logprobs:     logprobs(choice.Logprobs.Content),
		ProviderData: leftOver(c.RawJSON()),
	}
	if resp.Model == "" {
		resp.Model = model
	}
	msg := &choice.Message
	if len(msg.JSON.ExtraFields) > 0 {
		if thinking := reasoning(msg.RawJSON()); thinking != "" {
			resp.Message.Parts = append(resp.Message.Parts, lm.Thinking(thinking))
		}
	}
	resp.Message.Parts = append(resp.Message.Parts, contents(msg)...)
	if msg.Refusal != "" {
		resp.Message.Parts = append(resp.Message.Parts, lm.Refusal(msg.Refusal))
	}
	for i := range msg.Annotations {
		if c := msg.Annotations[i].URLCitation; c.URL != "" {
			resp.Message.Parts = append(resp.Message.Parts,
				lm.Part{Type: lm.PartCitation, Citation: &lm.Citation{URL: c.URL, Title: c.Title}})
		}
	}
	called := false
	for i := range msg.ToolCalls {
		call := &msg.ToolCalls[i]
		if call.Function.Name == "" {
			return nil, m.provider(answer, "the answer calls a tool without naming a function")
		}
		id := call.ID
		if id == "" {
			id = fmt.Sprintf("call_%d", i)
		}
		called = true
		resp.Message.Parts = append(resp.Message.Parts, lm.ToolCallPart(id, call.Function.Name, lm.ToolInput(call.Function.Arguments)))
	}
	if len(resp.Message.Parts) == 0 {
		resp.Message.Parts = []lm.Part{lm.Text("")}
	}
	resp.FinishReason = finish(choice.FinishReason, called)
	return resp, nil
}

// contents returns the text of the answer, which some servers send as a list.
func contents(msg *sdk.ChatCompletionMessage) []lm.Part {
	raw := msg.JSON.Content.Raw()
	switch {
	case msg.Content == "":
		return nil
	case raw == "" || raw[0] != '[':
		return []lm.Part{lm.Text(msg.Content)}
	}
	var list []struct {
		Type string `json:"type"`
		Text string `json:"text"`
	}
	if json.Unmarshal([]byte(raw), &list) != nil {
		return nil
	}
	var parts []lm.Part
	for _, c := range list {
		if c.Type == "text" {
			parts = append(parts, lm.Text(c.Text))
		}
	}
	return parts
}

func finish(reason string, called bool) lm.FinishReason {
	switch {
	case called:
		return lm.FinishToolCall
	case reason == "length":
		return lm.FinishLength
	case reason == "content_filter":
		return lm.FinishContentFilter
	case reason == "tool_calls", reason == "function_call":
		return lm.FinishToolCall
	default: // DSPy, too, takes what it does not know for a regular end.
		return lm.FinishStop
	}
}

// reasoning returns the thinking that servers other than OpenAI show, under either of
// the two names that are in use.
func reasoning(raw string) string {
	var fields struct {
		Content   any `json:"reasoning_content"`
		Reasoning any `json:"reasoning"`
	}
	if raw == "" || json.Unmarshal([]byte(raw), &fields) != nil {
		return ""
	}
	if s, ok := fields.Content.(string); ok && s != "" {
		return s
	}
	s, _ := fields.Reasoning.(string)
	return s
}

// leftOver returns what the body says beyond what the response holds.
func leftOver(raw string) json.RawMessage {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(raw), &members) != nil {
		return nil
	}
	for _, known := range []string{"id", "object", "model", "choices", "usage"} {
		delete(members, known)
	}
	if len(members) == 0 {
		return nil
	}
	data, err := json.Marshal(members)
	if err != nil {
		return nil
	}
	return data
}

func usage(u *sdk.CompletionUsage) lm.Usage {
	var out lm.Usage
	set := func(f lm.UsageField, n int64, reported bool) {
		if reported {
			out.Set(f, n)
		}
	}
	prompt, completion := &u.PromptTokensDetails, &u.CompletionTokensDetails
	set(lm.UsageInput, u.PromptTokens, u.JSON.PromptTokens.Valid())
	set(lm.UsageOutput, u.CompletionTokens, u.JSON.CompletionTokens.Valid())
	set(lm.UsageTotal, u.TotalTokens, u.JSON.TotalTokens.Valid())
	set(lm.UsageCacheRead, prompt.CachedTokens, prompt.JSON.CachedTokens.Valid())
	set(lm.UsageCacheWrite, prompt.CacheWriteTokens, prompt.JSON.CacheWriteTokens.Valid())
	set(lm.UsageReasoning, completion.ReasoningTokens, completion.JSON.ReasoningTokens.Valid())
	set(lm.UsageInputAudio, prompt.AudioTokens, prompt.JSON.AudioTokens.Valid())
	set(lm.UsageOutputAudio, completion.AudioTokens, completion.JSON.AudioTokens.Valid())
	return out.WithTotal()
}

func logprobs(list []sdk.ChatCompletionTokenLogprob) []lm.TokenLogprob {
	if len(list) == 0 {
		return nil
	}
	out := make([]lm.TokenLogprob, len(list))
	for i := range list {
		t := &list[i]
		out[i].Logprob = lm.Logprob{Token: t.Token, Logprob: t.Logprob, Bytes: tokenBytes(t.Bytes)}
		for j := range t.TopLogprobs {
			top := &t.TopLogprobs[j]
			out[i].Top = append(out[i].Top, lm.Logprob{Token: top.Token, Logprob: top.Logprob, Bytes: tokenBytes(top.Bytes)})
		}
	}
	return out
}

func tokenBytes(list []int64) []byte {
	if list == nil {
		return nil
	}
	out := make([]byte, len(list))
	for i, n := range list {
		out[i] = byte(n)
	}
	return out
}
