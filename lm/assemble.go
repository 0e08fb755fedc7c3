package lm

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"strings"
)

// Collect ranges over a stream and returns the whole answer: a Complete made of a
// Stream. It fails with the stream's own error, and with KindTransport when the
// stream breaks the order of [Event]s or ends without an end. The model's name is
// used when the stream does not give one.
func Collect(model string, events iter.Seq2[Event, error]) (*Response, error) {
	a := Assembler{Model: model}
	for e, err := range events {
		if err != nil {
			return nil, err
		}
		if err := a.Push(e); err != nil {
			return nil, err
		}
	}
	return a.Response()
}

// Assembler puts a stream together to the whole answer, with the rules of DSPy's own
// (dspy/_vendor/lm15/result.py) and its check of the order of events. The zero value
// is ready. It is not safe for concurrent use.
type Assembler struct {
	// Model is the answer's model when the start event names none.
	Model string

	resp           Response
	started, ended bool
	parts          []*assembly
}

// assembly is what has arrived of the parts with one index. DSPy lets kinds share an
// index, in which case they follow each other in the order of these fields.
type assembly struct {
	index        int
	thinking     *strings.Builder
	text         *strings.Builder
	image        *MediaDelta
	audio        []string
	audioType    string
	hasAudio     bool
	citations    []Citation
	call         *ToolCall
	callInput    strings.Builder
	continuation []Continuation
}

// Push adds the next event.
func (a *Assembler) Push(e Event) error {
	switch {
	case e.Type == EventError && e.Error != nil:
		return e.Error.Err("")
	case a.ended:
		return broken("an event after its end")
	case e.Type == EventStart && a.started:
		return broken("two starts")
	case e.Type == EventStart:
		a.started = true
		a.resp.ID, a.resp.Model, a.resp.Adaptations = e.ID, e.Model, e.Adaptations
		return nil
	case !a.started:
		return broken("data before its start")
	case e.Type == EventEnd:
		a.ended = true
		a.resp.FinishReason, a.resp.ProviderData = e.FinishReason, e.ProviderData
		if e.Usage != nil {
			a.resp.Usage = *e.Usage
		}
		return nil
	case e.Type == EventDelta && e.Delta != nil:
		return a.delta(e.Delta)
	default:
		return broken(fmt.Sprintf("an event of kind %q", e.Type))
	}
}

func broken(what string) *Error {
	return Errorf(KindTransport, "", "the stream of the answer is broken: %s", what)
}

func (a *Assembler) at(index int) *assembly {
	for _, p := range a.parts {
		if p.index == index {
			return p
		}
	}
	p := &assembly{index: index}
	a.parts = append(a.parts, p)
	return p
}

func (a *Assembler) delta(d *Delta) error {
	if d.Type == DeltaContinuation && d.WholeMessage {
		a.resp.Message.Continuation = append(a.resp.Message.Continuation, *d.Continuation)
		return nil
	}
	p := a.at(d.PartIndex)
	switch d.Type {
	case DeltaText:
		add(&p.text, d.Text)
		a.resp.Logprobs = append(a.resp.Logprobs, d.Logprobs...)
		a.resp.LogprobsIncomplete = a.resp.LogprobsIncomplete || d.LogprobsIncomplete
	case DeltaThinking:
		add(&p.thinking, d.Text)
	case DeltaToolCall:
		if p.call == nil {
			p.call = &ToolCall{}
		}
		if d.ID != "" {
			p.call.ID = d.ID
		}
		if d.Name != "" {
			p.call.Name = d.Name
		}
		p.callInput.WriteString(d.Input)
	case DeltaImage:
		if m := d.Media; m != nil && (m.Data != nil || m.URL != nil || m.FileID != nil) {
			p.image = m
		}
	case DeltaAudio:
		if d.Media != nil {
			if !p.hasAudio {
				p.hasAudio, p.audioType = true, d.Media.MediaType
			}
			if d.Media.Data != nil {
				p.audio = append(p.audio, *d.Media.Data)
			}
		}
	case DeltaCitation:
		if c := d.Citation; c != nil {
			p.citations = append(p.citations, Citation{Text: value(c.Text), URL: value(c.URL), Title: value(c.Title)})
		}
	case DeltaContinuation:
		if d.Continuation != nil {
			p.continuation = append(p.continuation, *d.Continuation)
		}
	default:
		return broken(fmt.Sprintf("a delta of kind %q", d.Type))
	}
	return nil
}

func add(b **strings.Builder, s string) {
	if *b == nil {
		*b = new(strings.Builder)
	}
	(*b).WriteString(s)
}

func value(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// Response returns the whole answer. It fails when the stream has not ended, or
// when a tool call came without a name.
func (a *Assembler) Response() (*Response, error) {
	if !a.ended {
		return nil, broken("it stops before its end")
	}
	resp := a.resp
	resp.Usage = resp.Usage.WithTotal()
	if resp.Model == "" {
		resp.Model = a.Model
	}
	resp.Message.Role = RoleAssistant
	slices.SortStableFunc(a.parts, func(p, q *assembly) int { return p.index - q.index })
	called := false
	for _, p := range a.parts {
		if p.call != nil && p.call.Name == "" {
			return nil, broken(fmt.Sprintf("the tool call at part %d has no name", p.index))
		}
		called = called || p.call != nil
		resp.Message.Parts = append(resp.Message.Parts, p.build()...)
	}
	if len(resp.Message.Parts) == 0 {
		resp.Message.Parts = []Part{Text("")}
	}
	switch {
	case called && (resp.FinishReason == "" || resp.FinishReason == FinishStop):
		resp.FinishReason = FinishToolCall
	case resp.FinishReason == "":
		resp.FinishReason = FinishStop
	}
	return &resp, nil
}

func (p *assembly) build() []Part {
	var parts []Part
	if p.thinking != nil {
		parts = append(parts, Thinking(p.thinking.String()))
	}
	if p.text != nil {
		parts = append(parts, Text(p.text.String()))
	}
	if m := p.image; m != nil {
		mediaType := m.MediaType
		if mediaType == "" {
			mediaType = "image/png"
		}
		parts = append(parts, Image(Media{
			MediaType: mediaType, Data: value(m.Data), URL: value(m.URL), FileID: value(m.FileID),
		}))
	}
	if p.hasAudio {
		parts = append(parts, audioPart(p.audio, p.audioType))
	}
	for _, c := range p.citations {
		parts = append(parts, Part{Type: PartCitation, Citation: &c})
	}
	if p.call != nil {
		id := p.call.ID
		if id == "" {
			id = fmt.Sprintf("tool_call_%d", p.index)
		}
		parts = append(parts, ToolCallPart(id, p.call.Name, ToolInput(p.callInput.String())))
	}
	if len(parts) == 0 {
		parts = append(parts, Text(""))
	}
	for i := range parts {
		parts[i].Continuation = p.continuation
	}
	return parts
}

// audioPart joins chunks of base64. Raw samples, which is what a stream without a
// media type holds, get the header that makes them a WAV file, as in DSPy.
func audioPart(chunks []string, mediaType string) Part {
	var raw []byte
	for _, c := range chunks {
		c = strings.TrimRight(c, "=")
		data, err := base64.RawStdEncoding.DecodeString(c)
		if err != nil {
			continue // DSPy, too, leaves out what cannot be decoded.
		}
		raw = append(raw, data...)
	}
	switch mediaType {
	case "", "audio/pcm", "audio/pcm16":
		raw, mediaType = wav(raw), "audio/wav"
	}
	return Audio(Media{MediaType: mediaType, Data: base64.StdEncoding.EncodeToString(raw)})
}

// wav prefixes 16-bit mono samples at 24 kHz, the form that OpenAI streams.
func wav(pcm []byte) []byte {
	const rate, channels, bits = 24000, 1, 16
	b := make([]byte, 0, 44+len(pcm))
	b = append(b, "RIFF"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(36+len(pcm)))
	b = append(b, "WAVEfmt "...)
	b = binary.LittleEndian.AppendUint32(b, 16)
	b = binary.LittleEndian.AppendUint16(b, 1)
	b = binary.LittleEndian.AppendUint16(b, channels)
	b = binary.LittleEndian.AppendUint32(b, rate)
	b = binary.LittleEndian.AppendUint32(b, rate*channels*bits/8)
	b = binary.LittleEndian.AppendUint16(b, channels*bits/8)
	b = binary.LittleEndian.AppendUint16(b, bits)
	b = append(b, "data"...)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(pcm)))
	return append(b, pcm...)
}

// ToolInput returns the JSON object for the arguments that a model wrote. As in DSPy,
// text that is no JSON becomes {"partial_json": text}, and JSON that is no object
// becomes {"value": …}.
func ToolInput(text string) json.RawMessage {
	if text == "" {
		return json.RawMessage("{}")
	}
	r := reader{b: []byte(text)}
	first := r.peek()
	if r.skip() == nil && r.end() == nil {
		if first == '{' {
			return json.RawMessage(text)
		}
		return json.RawMessage(`{"value":` + text + `}`)
	}
	w := writer{}
	w.open('{')
	w.str("partial_json", text)
	w.close('}')
	return w.b
}
