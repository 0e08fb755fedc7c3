package lm

import (
	"cmp"
	"encoding/json"
)

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

func (c Config) encode(w *writer) {
	w.open('{')
	w.intPtr("max_tokens", c.MaxTokens)
	w.floatPtr("temperature", c.Temperature)
	w.floatPtr("top_p", c.TopP)
	w.intPtr("top_k", c.TopK)
	w.strs("stop", c.Stop)
	if f := c.ResponseFormat; f != nil {
		w.key("response_format")
		w.open('{')
		w.str("type", f.Type)
		w.optStr("name", f.Name)
		w.optRaw("schema", f.Schema)
		w.boolPtr("strict", f.Strict)
		w.close('}')
	}
	if t := c.ToolChoice; t != nil {
		w.key("tool_choice")
		w.open('{')
		w.str("mode", cmp.Or(t.Mode, ToolsAuto))
		w.strs("allowed", t.Allowed)
		w.boolPtr("parallel", t.Parallel)
		w.close('}')
	}
	if r := c.Reasoning; r != nil {
		w.key("reasoning")
		w.open('{')
		w.str("effort", cmp.Or(r.Effort, "medium"))
		w.intPtr("thinking_budget", r.ThinkingBudget)
		w.optStr("summary", r.Summary)
		w.close('}')
	}
	if p := c.Cache; p != nil {
		w.key("cache")
		w.open('{')
		w.str("mode", cmp.Or(p.Mode, "auto"))
		w.optStr("retention", p.Retention)
		w.optStr("key", p.Key)
		w.intPtr("prefix_until_index", p.PrefixUntilIndex)
		w.optStr("prefix", p.Prefix)
		w.optStr("resource", p.Resource)
		w.close('}')
	}
	if c.Seed != nil {
		w.int("seed", *c.Seed)
	}
	w.floatPtr("frequency_penalty", c.FrequencyPenalty)
	w.floatPtr("presence_penalty", c.PresencePenalty)
	w.optStr("service_tier", c.ServiceTier)
	w.optStr("user_id", c.UserID)
	w.boolPtr("store", c.Store)
	w.intPtr("logprobs", c.Logprobs)
	w.optStr("probabilities", c.Probabilities)
	w.optObject("extensions", c.Extensions)
	w.close('}')
}

func (r *Response) encode(w *writer) {
	w.open('{')
	w.optStr("id", r.ID)
	w.str("model", r.Model)
	w.key("message")
	r.Message.encode(w)
	w.str("finish_reason", string(r.FinishReason))
	if r.Usage != (Usage{}) {
		w.key("usage")
		r.Usage.encode(w)
	}
	w.logprobs(r.Logprobs)
	if r.LogprobsIncomplete {
		w.bool("logprobs_complete", false)
	}
	w.adaptations(r.Adaptations)
	w.optObject("provider_data", r.ProviderData)
	w.close('}')
}

func (u Usage) encode(w *writer) {
	w.open('{')
	for f := range usageFields {
		if n, reported := u.Get(f); reported {
			w.int(usageNames[f], n)
		}
	}
	w.close('}')
}

func (w *writer) logprobs(list []TokenLogprob) {
	if len(list) == 0 {
		return
	}
	w.key("logprobs")
	w.open('[')
	for i := range list {
		w.sep()
		w.open('{')
		w.logprob(&list[i].Logprob)
		if len(list[i].Top) > 0 {
			w.key("top")
			w.open('[')
			for j := range list[i].Top {
				w.sep()
				w.open('{')
				w.logprob(&list[i].Top[j])
				w.close('}')
			}
			w.close(']')
		}
		w.close('}')
	}
	w.close(']')
}

func (w *writer) logprob(l *Logprob) {
	w.str("token", l.Token)
	w.float("logprob", l.Logprob)
	if l.Bytes != nil {
		w.key("bytes")
		w.open('[')
		for _, c := range l.Bytes {
			w.sep()
			w.b = appendByteNumber(w.b, c)
		}
		w.close(']')
	}
	w.intPtr("token_id", l.TokenID)
}

func appendByteNumber(b []byte, c byte) []byte {
	if c >= 100 {
		b = append(b, '0'+c/100)
	}
	if c >= 10 {
		b = append(b, '0'+c/10%10)
	}
	return append(b, '0'+c%10)
}

func (w *writer) adaptations(list []Adaptation) {
	if len(list) == 0 {
		return
	}
	w.key("adaptations")
	w.open('[')
	for _, a := range list {
		w.sep()
		w.open('{')
		w.str("field", a.Field)
		w.str("action", a.Action)
		w.str("reason", a.Reason)
		w.optRaw("asked", a.Asked)
		w.optRaw("applied", a.Applied)
		w.close('}')
	}
	w.close(']')
}

func (e *Event) encode(w *writer) {
	w.open('{')
	w.str("type", string(e.Type))
	switch e.Type {
	case EventStart:
		w.optStr("id", e.ID)
		w.optStr("model", e.Model)
		w.adaptations(e.Adaptations)
	case EventDelta:
		if e.Delta != nil {
			w.key("delta")
			e.Delta.encode(w)
		}
	case EventEnd:
		w.optStr("finish_reason", string(e.FinishReason))
		if e.Usage != nil && *e.Usage != (Usage{}) {
			w.key("usage")
			e.Usage.encode(w)
		}
		w.optObject("provider_data", e.ProviderData)
	case EventError:
		if d := e.Error; d != nil {
			w.key("error")
			w.open('{')
			w.str("code", d.Code)
			w.optStr("message", d.Message)
			w.optStr("provider_code", d.ProviderCode)
			w.optObject("http_response", d.HTTPResponse)
			w.close('}')
		}
	}
	w.close('}')
}

func (d *Delta) encode(w *writer) {
	w.open('{')
	w.str("type", string(d.Type))
	if !d.WholeMessage {
		w.int("part_index", int64(d.PartIndex))
	}
	switch d.Type {
	case DeltaText:
		w.str("text", d.Text)
		w.logprobs(d.Logprobs)
		if d.LogprobsIncomplete {
			w.bool("logprobs_complete", false)
		}
	case DeltaThinking:
		w.str("text", d.Text)
	case DeltaToolCall:
		w.str("input", d.Input)
		w.optStr("id", d.ID)
		w.optStr("name", d.Name)
	case DeltaAudio, DeltaImage:
		if m := d.Media; m != nil {
			w.strPtr("data", m.Data)
			w.strPtr("url", m.URL)
			w.strPtr("file_id", m.FileID)
			w.optStr("media_type", m.MediaType)
		}
	case DeltaCitation:
		if c := d.Citation; c != nil {
			w.strPtr("text", c.Text)
			w.strPtr("url", c.URL)
			w.strPtr("title", c.Title)
		}
	case DeltaContinuation:
		if c := d.Continuation; c != nil {
			w.str("provider", c.Provider)
			w.str("kind", c.Kind)
			w.raw("data", orElse(c.Data, "{}"))
		}
	}
	w.close('}')
}
