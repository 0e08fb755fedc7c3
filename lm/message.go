package lm

import "encoding/json"

// Role says who speaks in a [Message].
type Role string

// The roles. Instructions of the whole conversation are in Request.System; a
// developer message carries instructions in its middle.
const (
	RoleUser      Role = "user"
	RoleAssistant Role = "assistant"
	RoleTool      Role = "tool"
	RoleDeveloper Role = "developer"
)

// Message is one turn of a conversation. It has at least one part; a message of
// RoleTool holds tool results only.
type Message struct {
	Role  Role
	Parts []Part
	// Continuation is opaque state that the provider wants back with the message.
	Continuation []Continuation
}

// User returns a message of the user.
func User(parts ...Part) Message { return Message{Role: RoleUser, Parts: parts} }

// Assistant returns a message of the model.
func Assistant(parts ...Part) Message { return Message{Role: RoleAssistant, Parts: parts} }

// Developer returns a message with instructions.
func Developer(parts ...Part) Message { return Message{Role: RoleDeveloper, Parts: parts} }

// ToolResults returns a message that answers tool calls.
func ToolResults(parts ...Part) Message { return Message{Role: RoleTool, Parts: parts} }

// PartType says what a [Part] holds.
type PartType string

// The kinds of content.
const (
	PartText       PartType = "text"
	PartThinking   PartType = "thinking"
	PartRefusal    PartType = "refusal"
	PartCitation   PartType = "citation"
	PartImage      PartType = "image"
	PartAudio      PartType = "audio"
	PartVideo      PartType = "video"
	PartDocument   PartType = "document"
	PartBinary     PartType = "binary"
	PartToolCall   PartType = "tool_call"
	PartToolResult PartType = "tool_result"
	PartData       PartType = "data"
)

// Part is one piece of content. Type says which of the other fields is set: Text
// for text, thinking and refusal; Media for image, audio, video, document and
// binary; and the field of the same name for the rest.
type Part struct {
	Type       PartType
	Text       string
	Media      *Media
	Citation   *Citation
	ToolCall   *ToolCall
	ToolResult *ToolResult
	Data       *Data
	// Continuation is opaque state that the provider wants back with the part.
	Continuation []Continuation
}

// Media addresses content by exactly one of Data, URL, FileID and Path.
type Media struct {
	// MediaType is a MIME type, such as "image/png".
	MediaType string
	// Data is the content in base64.
	Data string
	// URL is where the provider can fetch the content.
	URL string
	// FileID names a file that was uploaded to the provider.
	FileID string
	// Path is a file on the machine that made the request.
	Path string
	// Detail asks for a resolution: "low", "high" or "auto". Images only.
	Detail string
}

// Citation refers to source material by at least one of its fields.
type Citation struct {
	Text  string
	URL   string
	Title string
}

// ToolCall is the model's request to run a tool.
type ToolCall struct {
	ID   string
	Name string
	// Input holds the arguments, a JSON object.
	Input json.RawMessage
}

// ToolResult is what a tool returned.
type ToolResult struct {
	// ID is that of the tool call it answers.
	ID      string
	Name    string
	Content []Part
	IsError bool
}

// Data is structured content.
type Data struct {
	// Value is any JSON value.
	Value json.RawMessage
	// Probabilities is a distribution over the keys of each judged field, when one
	// was measured; Method then says how.
	Probabilities map[string]map[string]float64
	Method        string
}

// Continuation is opaque state of a provider that has to travel with the message
// or part it came with, so that a later request can continue the conversation.
type Continuation struct {
	Provider string
	Kind     string
	// Data is a JSON object.
	Data json.RawMessage
}

// Text returns a part that holds text.
func Text(s string) Part { return Part{Type: PartText, Text: s} }

// Thinking returns a part that holds a reasoning trace.
func Thinking(s string) Part { return Part{Type: PartThinking, Text: s} }

// Refusal returns a part in which the model declines to answer.
func Refusal(s string) Part { return Part{Type: PartRefusal, Text: s} }

// Image returns an image part.
func Image(m Media) Part { return Part{Type: PartImage, Media: &m} }

// Audio returns an audio part.
func Audio(m Media) Part { return Part{Type: PartAudio, Media: &m} }

// Document returns a part that holds a document, such as a PDF file.
func Document(m Media) Part { return Part{Type: PartDocument, Media: &m} }

// ToolCallPart returns a part that asks for a tool to be run. Input is a JSON object.
func ToolCallPart(id, name string, input json.RawMessage) Part {
	return Part{Type: PartToolCall, ToolCall: &ToolCall{ID: id, Name: name, Input: input}}
}

// ToolResultPart returns a part that answers the tool call with the given id.
func ToolResultPart(id string, content ...Part) Part {
	return Part{Type: PartToolResult, ToolResult: &ToolResult{ID: id, Content: content}}
}
