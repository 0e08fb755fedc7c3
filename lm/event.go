package lm

import "encoding/json"

// EventType says what an [Event] is.
type EventType string

// The events of a stream, in order: one start, any number of deltas, one end. An
// error event ends a stream that was written as JSON; in Go a failure is the
// error of the sequence instead.
const (
	EventStart EventType = "start"
	EventDelta EventType = "delta"
	EventEnd   EventType = "end"
	EventError EventType = "error"
)

// Event is one step of a streamed answer.
type Event struct {
	Type EventType

	// ID, Model and Adaptations belong to a start.
	ID          string
	Model       string
	Adaptations []Adaptation

	// Delta belongs to a delta.
	Delta *Delta

	// FinishReason, Usage and ProviderData belong to an end; each may be missing.
	FinishReason FinishReason
	Usage        *Usage
	ProviderData json.RawMessage

	// Error belongs to an error.
	Error *ErrorDetail
}

// DeltaType says what a [Delta] carries.
type DeltaType string

// The kinds of deltas.
const (
	DeltaText         DeltaType = "text"
	DeltaThinking     DeltaType = "thinking"
	DeltaToolCall     DeltaType = "tool_call"
	DeltaCitation     DeltaType = "citation"
	DeltaAudio        DeltaType = "audio"
	DeltaImage        DeltaType = "image"
	DeltaContinuation DeltaType = "continuation"
)

// Delta is a fragment of one part of the answer.
type Delta struct {
	Type DeltaType
	// PartIndex says which part of the message the fragment belongs to.
	PartIndex int

	// Text belongs to text and thinking.
	Text string
	// Logprobs and LogprobsIncomplete belong to text; see [Response].
	Logprobs           []TokenLogprob
	LogprobsIncomplete bool

	// Input is a fragment of a tool call's arguments. ID and Name come with the
	// first fragment of a call.
	Input string
	ID    string
	Name  string

	// Media belongs to audio and image.
	Media *MediaDelta
	// Citation belongs to citation.
	Citation *CitationDelta

	// Continuation belongs to continuation. WholeMessage means that it goes with
	// the message, not with the part at PartIndex.
	Continuation *Continuation
	WholeMessage bool
}

// MediaDelta is a fragment of audio, or an image. At most one of Data (base64),
// URL and FileID is set.
type MediaDelta struct {
	Data      *string
	URL       *string
	FileID    *string
	MediaType string
}

// CitationDelta is a citation in a stream; at least one field is set.
type CitationDelta struct {
	Text  *string
	URL   *string
	Title *string
}

// ErrorDetail is an error in a stream that was written as JSON.
type ErrorDetail struct {
	// Code is one of DSPy's error codes; every [Kind] but KindUnexpected is one.
	Code         string
	Message      string
	ProviderCode string
	// HTTPResponse is a JSON object with "request_id" and "retry_after" (seconds).
	HTTPResponse json.RawMessage
}

// TextDelta returns an event that adds text to the part at index.
func TextDelta(index int, text string) Event {
	return Event{Type: EventDelta, Delta: &Delta{Type: DeltaText, PartIndex: index, Text: text}}
}
