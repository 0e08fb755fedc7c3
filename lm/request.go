package lm

import "encoding/json"

// Request is one call to a model, as DSPy writes it.
//
// A Request is shared by everything it passes through: whoever wants to change
// one works on a copy.
type Request struct {
	// Model names the model. Required.
	Model string
	// System holds the instructions of the whole conversation. At most one of
	// System and SystemParts is set.
	System      string
	SystemParts []Part
	// Messages has at least one element.
	Messages []Message
	Tools    []Tool
	Config   Config

	// The fields below say where the call comes from. They are no part of the
	// request's JSON and no provider sends them.

	// Route is the name under which the program asked.
	Route string
	// RolloutID tells equal requests of different rollouts apart; nil outside one.
	RolloutID *int64
	// Candidate is the index of the completion when a program asked for several.
	Candidate int
	// Predictor is the path of the DSPy predictor that asked, such as "predict".
	Predictor string
}

// ToolType says what a [Tool] is.
type ToolType string

// The kinds of tools.
const (
	// ToolFunction is a tool of the caller's.
	ToolFunction ToolType = "function"
	// ToolBuiltin is a tool of the provider's, such as web search.
	ToolBuiltin ToolType = "builtin"
)

// Tool is something that the model may call.
type Tool struct {
	Type        ToolType
	Name        string
	Description string
	// Parameters is the JSON Schema of a function's arguments. Nil means an object
	// without properties.
	Parameters json.RawMessage
	// Config is a JSON object with the settings of a builtin tool.
	Config json.RawMessage
}

// noParameters is what DSPy writes for a function without declared parameters.
const noParameters = `{"type":"object","properties":{}}`
