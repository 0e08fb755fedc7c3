package lm_test

import (
	"encoding/json"
	"errors"
	"iter"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/lm"
)

func stream(events ...lm.Event) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		for _, e := range events {
			if !yield(e, nil) {
				return
			}
		}
	}
}

func delta(d lm.Delta) lm.Event { return lm.Event{Type: lm.EventDelta, Delta: &d} }

var (
	start = lm.Event{Type: lm.EventStart, ID: "r1", Model: "m"}
	end   = lm.Event{Type: lm.EventEnd, FinishReason: lm.FinishStop}
)

func TestAStreamIsCollectedAsDSPyDoes(t *testing.T) {
	continuation := lm.Continuation{Provider: "p", Kind: "k", Data: json.RawMessage(`{}`)}
	got, err := lm.Collect("fallback", stream(
		lm.Event{Type: lm.EventStart},
		lm.TextDelta(0, "Hel"),
		delta(lm.Delta{Type: lm.DeltaThinking, Text: "hm"}),
		delta(lm.Delta{Type: lm.DeltaToolCall, PartIndex: 2, ID: "c", Name: "f", Input: `{"a"`}),
		lm.TextDelta(0, "lo"),
		delta(lm.Delta{Type: lm.DeltaToolCall, PartIndex: 2, Input: `:1}`}),
		delta(lm.Delta{Type: lm.DeltaToolCall, PartIndex: 1, Name: "g", Input: `{"cut`}),
		delta(lm.Delta{Type: lm.DeltaContinuation, PartIndex: 2, Continuation: &continuation}),
		delta(lm.Delta{Type: lm.DeltaContinuation, WholeMessage: true, Continuation: &continuation}),
		lm.Event{Type: lm.EventEnd, Usage: &lm.Usage{InputTokens: 1, OutputTokens: 2}},
	))
	if err != nil {
		t.Fatal(err)
	}
	call := lm.ToolCallPart("c", "f", json.RawMessage(`{"a":1}`))
	call.Continuation = []lm.Continuation{continuation}
	want := &lm.Response{
		Model: "fallback",
		Message: lm.Message{
			Role: lm.RoleAssistant,
			Parts: []lm.Part{
				lm.Thinking("hm"), lm.Text("Hello"),
				lm.ToolCallPart("tool_call_1", "g", json.RawMessage(`{"partial_json":"{\"cut"}`)), call,
			},
			Continuation: []lm.Continuation{continuation},
		},
		FinishReason: lm.FinishToolCall,
		Usage:        lm.Usage{InputTokens: 1, OutputTokens: 2, TotalTokens: 3},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestABrokenStreamIsATypedError(t *testing.T) {
	for name, tc := range map[string]struct {
		events []lm.Event
		kind   lm.Kind
	}{
		"empty":             {nil, lm.KindTransport},
		"no end":            {[]lm.Event{start, lm.TextDelta(0, "x")}, lm.KindTransport},
		"no start":          {[]lm.Event{lm.TextDelta(0, "x"), end}, lm.KindTransport},
		"two starts":        {[]lm.Event{start, start, end}, lm.KindTransport},
		"after the end":     {[]lm.Event{start, end, lm.TextDelta(0, "x")}, lm.KindTransport},
		"unknown event":     {[]lm.Event{start, {Type: "x"}, end}, lm.KindTransport},
		"call without name": {[]lm.Event{start, delta(lm.Delta{Type: lm.DeltaToolCall, Input: "{}"}), end}, lm.KindTransport},
		"error event": {
			[]lm.Event{start, {Type: lm.EventError, Error: &lm.ErrorDetail{Code: "rate_limit"}}},
			lm.KindRateLimit,
		},
	} {
		t.Run(name, func(t *testing.T) {
			if resp, err := lm.Collect("m", stream(tc.events...)); lm.KindOf(err) != tc.kind || resp != nil {
				t.Errorf("got %v, %v", resp, err)
			}
		})
	}
}

func TestAnAnswerWithoutPartsBecomesEmptyText(t *testing.T) {
	got, err := lm.Collect("m", stream(start, end))
	if err != nil || got.Text() != "" || len(got.Message.Parts) != 1 {
		t.Errorf("got %+v, %v", got, err)
	}
}

func TestReplayingAndCollectingGivesTheAnswerBack(t *testing.T) {
	want := &lm.Response{
		ID: "r", Model: "m", FinishReason: lm.FinishToolCall, Usage: lm.Usage{InputTokens: 3},
		Message: lm.Message{Role: lm.RoleAssistant, Parts: []lm.Part{
			lm.Thinking("hm"), lm.Text("a"),
			{Type: lm.PartCitation, Citation: &lm.Citation{URL: "u", Title: "t"}},
			lm.Image(lm.Media{MediaType: "image/png", URL: "https://e.com/i.png"}),
			lm.Audio(lm.Media{MediaType: "audio/mpeg", Data: "AAEC"}),
			lm.ToolCallPart("1", "f", json.RawMessage(`{"x":[1]}`)),
		}, Continuation: []lm.Continuation{{Provider: "p", Kind: "k", Data: json.RawMessage(`{"a":1}`)}}},
		Logprobs:     []lm.TokenLogprob{{Logprob: lm.Logprob{Token: "a", Logprob: -1}}},
		ProviderData: json.RawMessage(`{"a":1}`),
		Adaptations:  []lm.Adaptation{{Field: "tools", Action: "dropped", Reason: "none"}},
	}
	got, err := lm.Collect("", lm.Replay(func() (*lm.Response, error) { return want, nil }))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFailureIsReplayedAsOne(t *testing.T) {
	mine := errors.New("mine")
	if _, err := lm.Collect("", lm.Replay(func() (*lm.Response, error) { return nil, mine })); !errors.Is(err, mine) {
		t.Errorf("got %v", err)
	}
	refusal := &lm.Response{Model: "m", Message: lm.Assistant(lm.Refusal("no"))}
	_, err := lm.Collect("", lm.Replay(func() (*lm.Response, error) { return refusal, nil }))
	if lm.KindOf(err) != lm.KindUnsupportedFeature || !strings.Contains(err.Error(), "refusal") {
		t.Errorf("got %v", err)
	}
}

func TestRawSamplesBecomeAWAVFile(t *testing.T) {
	chunk := "AAEC"
	got, err := lm.Collect("m", stream(start, delta(lm.Delta{Type: lm.DeltaAudio, Media: &lm.MediaDelta{Data: &chunk}}), end))
	if err != nil {
		t.Fatal(err)
	}
	media := got.Message.Parts[0].Media
	if media.MediaType != "audio/wav" || !strings.HasPrefix(media.Data, "UklGRi") {
		t.Errorf("got %+v", media)
	}
}

func TestTextJoinsWhatDSPysAdaptersRead(t *testing.T) {
	resp := lm.Response{Message: lm.Assistant(
		lm.Thinking("no"), lm.Text("a"), lm.Part{Type: lm.PartData, Data: &lm.Data{Value: json.RawMessage(`{"b":1}`)}},
		lm.Text("c"), lm.Refusal("no"),
	)}
	if got := resp.Text(); got != `a{"b":1}c` {
		t.Errorf("got %q", got)
	}
}
