package lm

import "encoding/json"

// AppendJSON appends the canonical JSON of the request to dst. It fails when a raw
// value is not JSON.
func (r *Request) AppendJSON(dst []byte) ([]byte, error) { return appendJSON(dst, r.encode) }

// MarshalJSON returns the canonical JSON of the request.
func (r *Request) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil) }

// AppendJSON appends the canonical JSON of the response to dst. It fails when a raw
// value is not JSON.
func (r *Response) AppendJSON(dst []byte) ([]byte, error) { return appendJSON(dst, r.encode) }

// MarshalJSON returns the canonical JSON of the response.
func (r *Response) MarshalJSON() ([]byte, error) { return r.AppendJSON(nil) }

// AppendJSON appends the canonical JSON of the event to dst. It fails when a raw
// value is not JSON.
func (e *Event) AppendJSON(dst []byte) ([]byte, error) { return appendJSON(dst, e.encode) }

// MarshalJSON returns the canonical JSON of the event.
func (e Event) MarshalJSON() ([]byte, error) { return e.AppendJSON(nil) }

// MarshalJSON returns the canonical JSON of the message.
func (m Message) MarshalJSON() ([]byte, error) { return appendJSON(nil, m.encode) }

// MarshalJSON returns the canonical JSON of the part.
func (p Part) MarshalJSON() ([]byte, error) { return appendJSON(nil, p.encode) }

// MarshalJSON returns the canonical JSON of the settings.
func (c Config) MarshalJSON() ([]byte, error) { return appendJSON(nil, c.encode) }

// MarshalJSON returns the counters that the provider reported.
func (u Usage) MarshalJSON() ([]byte, error) { return appendJSON(nil, u.encode) }

func appendJSON(dst []byte, encode func(*writer)) ([]byte, error) {
	w := writer{b: dst}
	encode(&w)
	if w.err != nil {
		return dst, w.err
	}
	return w.b, nil
}

func (r *Request) encode(w *writer) {
	w.open('{')
	w.str("model", r.Model)
	w.key("messages")
	w.open('[')
	for i := range r.Messages {
		w.sep()
		r.Messages[i].encode(w)
	}
	w.close(']')
	if len(r.SystemParts) > 0 {
		w.parts("system", r.SystemParts)
	} else {
		w.optStr("system", r.System)
	}
	if len(r.Tools) > 0 {
		w.key("tools")
		w.open('[')
		for i := range r.Tools {
			w.sep()
			r.Tools[i].encode(w)
		}
		w.close(']')
	}
	// DSPy leaves empty settings out.
	before := len(w.b)
	w.key("config")
	start := len(w.b)
	r.Config.encode(w)
	if len(w.b) == start+len("{}") {
		w.b = w.b[:before]
	}
	w.close('}')
}

func (m Message) encode(w *writer) {
	w.open('{')
	w.str("role", string(m.Role))
	w.parts("parts", m.Parts)
	w.continuations(m.Continuation)
	w.close('}')
}

func (w *writer) parts(k string, parts []Part) {
	w.key(k)
	w.open('[')
	for i := range parts {
		w.sep()
		parts[i].encode(w)
	}
	w.close(']')
}

func (p Part) encode(w *writer) {
	w.open('{')
	w.str("type", string(p.Type))
	switch p.Type {
	case PartText, PartThinking, PartRefusal:
		w.str("text", p.Text)
	case PartCitation:
		if c := p.Citation; c != nil {
			w.optStr("text", c.Text)
			w.optStr("url", c.URL)
			w.optStr("title", c.Title)
		}
	case PartImage, PartAudio, PartVideo, PartDocument, PartBinary:
		if m := p.Media; m != nil {
			w.str("media_type", m.MediaType)
			w.optStr("data", m.Data)
			w.optStr("url", m.URL)
			w.optStr("file_id", m.FileID)
			w.optStr("path", m.Path)
			w.optStr("detail", m.Detail)
		}
	case PartToolCall:
		if c := p.ToolCall; c != nil {
			w.str("id", c.ID)
			w.str("name", c.Name)
			w.raw("input", orElse(c.Input, "{}"))
		}
	case PartToolResult:
		if t := p.ToolResult; t != nil {
			w.str("id", t.ID)
			w.optStr("name", t.Name)
			w.parts("content", t.Content)
			if t.IsError {
				w.bool("is_error", true)
			}
		}
	case PartData:
		if d := p.Data; d != nil {
			w.raw("value", orElse(d.Value, "null"))
			if d.Probabilities != nil {
				probabilities, err := json.Marshal(d.Probabilities)
				if err != nil {
					w.fail(err)
				}
				w.raw("probabilities", probabilities)
			}
			w.optStr("method", d.Method)
		}
	}
	w.continuations(p.Continuation)
	w.close('}')
}

func orElse(m json.RawMessage, fallback string) json.RawMessage {
	if len(m) == 0 {
		return json.RawMessage(fallback)
	}
	return m
}

func (w *writer) continuations(list []Continuation) {
	if len(list) == 0 {
		return
	}
	w.key("continuation")
	w.open('[')
	for _, c := range list {
		w.sep()
		w.open('{')
		w.str("provider", c.Provider)
		w.str("kind", c.Kind)
		w.raw("data", orElse(c.Data, "{}"))
		w.close('}')
	}
	w.close(']')
}

func (t *Tool) encode(w *writer) {
	w.open('{')
	w.str("type", string(t.Type))
	w.str("name", t.Name)
	switch t.Type {
	case ToolFunction:
		w.optStr("description", t.Description)
		w.raw("parameters", orElse(t.Parameters, noParameters))
	case ToolBuiltin:
		w.optObject("config", t.Config)
	}
	w.close('}')
}
