package openai

import (
	"encoding/json"

	sdk "github.com/openai/openai-go/v3"

	"github.com/dspex/dspex/lm"
)

// streaming turns chunks into canonical events. As in DSPy, text and thinking are at
// index 0 and tool calls at the index that the server gives them.
type streaming struct {
	model       string
	adaptations []lm.Adaptation
	yield       func(lm.Event, error) bool

	started  bool
	finished bool // a finish reason was seen
	called   bool
	reason   string
	refusal  string
	usage    *lm.Usage
	data     json.RawMessage
	calls    []streamedCall
}

// streamedCall is a tool call whose fragments are arriving.
type streamedCall struct {
	index int64 // the server's
	id    string
}

// chunk passes one chunk on. It reports whether the consumer wants more.
func (s *streaming) chunk(c *sdk.ChatCompletionChunk) bool {
	if !s.started {
		s.started = true
		start := lm.Event{Type: lm.EventStart, ID: c.ID, Model: c.Model, Adaptations: s.adaptations}
		if start.Model == "" {
			start.Model = s.model
		}
		if !s.yield(start, nil) {
			return false
		}
	}
	if c.JSON.Usage.Valid() {
		s.usage = new(usage(&c.Usage))
		s.data = leftOver(c.RawJSON())
	}
	if len(c.Choices) == 0 {
		return true
	}
	choice := &c.Choices[0]
	if choice.FinishReason != "" {
		s.finished, s.reason = true, choice.FinishReason
		if s.data == nil {
			s.data = leftOver(c.RawJSON())
		}
	}
	return s.delta(choice)
}

func (s *streaming) delta(choice *sdk.ChatCompletionChunkChoice) bool {
	d := &choice.Delta
	if len(d.JSON.ExtraFields) > 0 {
		if thinking := reasoning(d.RawJSON()); thinking != "" && !s.emit(lm.Delta{Type: lm.DeltaThinking, Text: thinking}) {
			return false
		}
	}
	if d.Content != "" {
		text := lm.Delta{Type: lm.DeltaText, Text: d.Content, Logprobs: logprobs(choice.Logprobs.Content)}
		if !s.emit(text) {
			return false
		}
	}
	s.refusal += d.Refusal
	for i := range d.ToolCalls {
		call := &d.ToolCalls[i]
		s.called = true
		if !s.emit(lm.Delta{
			Type: lm.DeltaToolCall, PartIndex: s.part(call.Index, call.ID),
			ID: call.ID, Name: call.Function.Name, Input: call.Function.Arguments,
		}) {
			return false
		}
	}
	return true
}

func (s *streaming) emit(d lm.Delta) bool {
	return s.yield(lm.Event{Type: lm.EventDelta, Delta: &d}, nil)
}

// part returns the part index of a tool call. Some servers leave the index out, so that
// every call seems to be the first: a new id is a new call.
func (s *streaming) part(index int64, id string) int {
	for i := len(s.calls) - 1; i >= 0; i-- {
		if s.calls[i].index == index && (id == "" || s.calls[i].id == id || s.calls[i].id == "") {
			if id != "" {
				s.calls[i].id = id
			}
			return i
		}
	}
	s.calls = append(s.calls, streamedCall{index: index, id: id})
	return len(s.calls) - 1
}

// end passes the end on, or returns the error of a stream that had none.
func (s *streaming) end() *lm.Error {
	switch {
	case !s.started:
		return lm.Errorf(lm.KindProvider, "", "the event stream holds no chunks")
	case !s.finished:
		return lm.Errorf(lm.KindTransport, "", "the event stream stops before the answer is finished")
	}
	end := lm.Event{
		Type: lm.EventEnd, FinishReason: finish(s.reason, s.called), Usage: s.usage, ProviderData: s.data,
	}
	if s.refusal != "" {
		// The canonical stream has no delta for a refusal, and shown as text it would
		// pass for an answer.
		end.FinishReason = lm.FinishContentFilter
		end.ProviderData = withRefusal(s.data, s.refusal)
	}
	s.yield(end, nil)
	return nil
}

func withRefusal(data json.RawMessage, refusal string) json.RawMessage {
	members := map[string]any{}
	if len(data) > 0 {
		_ = json.Unmarshal(data, &members) // leftOver made it.
	}
	members["refusal"] = refusal
	out, err := json.Marshal(members)
	if err != nil {
		return data
	}
	return out
}
