package lm

import (
	"encoding/json"
	"fmt"
)

// ParseRequest decodes the canonical JSON of a request. Keys that DSPy does not
// know are ignored, as DSPy does; an unknown kind of part or role is an error. The
// result does not alias data.
func ParseRequest(data []byte) (*Request, error) {
	req := new(Request)
	if err := parse(data, req.decode); err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	if req.Model == "" || len(req.Messages) == 0 {
		return nil, fmt.Errorf("lm: a request needs a model and at least one message")
	}
	return req, nil
}

// ParseResponse decodes the canonical JSON of a response, with the rules of
// [ParseRequest].
func ParseResponse(data []byte) (*Response, error) {
	resp := new(Response)
	if err := parse(data, resp.decode); err != nil {
		return nil, fmt.Errorf("response: %w", err)
	}
	if resp.Model == "" || resp.FinishReason == "" || len(resp.Message.Parts) == 0 {
		return nil, fmt.Errorf("lm: a response needs a model, a finish reason and at least one part")
	}
	return resp, nil
}

// ParseEvent decodes the canonical JSON of a stream event, with the rules of
// [ParseRequest].
func ParseEvent(data []byte) (Event, error) {
	var e Event
	if err := parse(data, e.decode); err != nil {
		return Event{}, fmt.Errorf("event: %w", err)
	}
	return e, nil
}

// UnmarshalJSON decodes the request; see [ParseRequest].
func (r *Request) UnmarshalJSON(data []byte) error { return into(r, data, ParseRequest) }

// UnmarshalJSON decodes the response; see [ParseResponse].
func (r *Response) UnmarshalJSON(data []byte) error { return into(r, data, ParseResponse) }

// UnmarshalJSON decodes the event; see [ParseEvent].
func (e *Event) UnmarshalJSON(data []byte) error {
	v, err := ParseEvent(data)
	if err == nil {
		*e = v
	}
	return err
}

// UnmarshalJSON decodes the message.
func (m *Message) UnmarshalJSON(data []byte) error {
	*m = Message{}
	return parse(data, m.decode)
}

// UnmarshalJSON decodes the part.
func (p *Part) UnmarshalJSON(data []byte) error {
	*p = Part{}
	return parse(data, p.decode)
}

// UnmarshalJSON decodes the settings.
func (c *Config) UnmarshalJSON(data []byte) error {
	*c = Config{}
	return parse(data, c.decode)
}

// UnmarshalJSON decodes the counters.
func (u *Usage) UnmarshalJSON(data []byte) error {
	*u = Usage{}
	return parse(data, u.decode)
}

func into[T any](dst *T, data []byte, parse func([]byte) (*T, error)) error {
	v, err := parse(data)
	if err == nil {
		*dst = *v
	}
	return err
}

func parse(data []byte, decode func(*reader) error) error {
	r := reader{b: data}
	if err := decode(&r); err != nil {
		return err
	}
	return r.end()
}

func (q *Request) decode(r *reader) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "model":
			return r.str(&q.Model)
		case "system":
			if r.peek() == '[' {
				return r.parts(&q.SystemParts)
			}
			return r.str(&q.System)
		case "messages":
			return r.array(func() error {
				q.Messages = append(q.Messages, Message{})
				return q.Messages[len(q.Messages)-1].decode(r)
			})
		case "tools":
			return r.array(func() error {
				q.Tools = append(q.Tools, Tool{})
				return q.Tools[len(q.Tools)-1].decode(r)
			})
		case "config":
			return q.Config.decode(r)
		default:
			return r.skip()
		}
	})
}

func (m *Message) decode(r *reader) error {
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "role":
			return strOf(r, &m.Role, RoleUser, RoleAssistant, RoleTool, RoleDeveloper)
		case "parts":
			return r.parts(&m.Parts)
		case "continuation":
			return r.continuations(&m.Continuation)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	switch m.Role {
	case RoleUser, RoleAssistant, RoleTool, RoleDeveloper:
	default:
		return r.errorf("%q is not a role", m.Role)
	}
	if len(m.Parts) == 0 {
		return r.errorf("a message of role %q has no parts", m.Role)
	}
	return nil
}

func (r *reader) parts(dst *[]Part) error {
	return r.array(func() error {
		*dst = append(*dst, Part{})
		p := &(*dst)[len(*dst)-1]
		if r.peek() == '"' { // DSPy takes a bare string for a text part.
			p.Type = PartText
			return r.str(&p.Text)
		}
		return p.decode(r)
	})
}

// flatPart holds the members of any kind of part: the kind may be written last.
type flatPart struct {
	text, url, title, id, name, method string

	media         Media
	input, value  json.RawMessage
	content       []Part
	isError       bool
	probabilities json.RawMessage
}

func (p *Part) decode(r *reader) error {
	var f flatPart
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return strOf(r, &p.Type, PartText, PartThinking, PartImage, PartToolCall, PartToolResult)
		case "text":
			return r.str(&f.text)
		case "url":
			return r.str(&f.url)
		case "title":
			return r.str(&f.title)
		case "media_type":
			return r.str(&f.media.MediaType)
		case "data":
			return r.str(&f.media.Data)
		case "file_id":
			return r.str(&f.media.FileID)
		case "path":
			return r.str(&f.media.Path)
		case "detail":
			return r.str(&f.media.Detail)
		case "id":
			return r.str(&f.id)
		case "name":
			return r.str(&f.name)
		case "input":
			return r.rawObject(&f.input)
		case "content":
			if r.peek() == '"' { // DSPy takes a bare string for one text part.
				f.content = []Part{{Type: PartText}}
				return r.str(&f.content[0].Text)
			}
			return r.parts(&f.content)
		case "is_error":
			return r.boolean(&f.isError)
		case "value":
			return r.raw(&f.value)
		case "probabilities":
			return r.rawObject(&f.probabilities)
		case "method":
			return r.str(&f.method)
		case "continuation":
			return r.continuations(&p.Continuation)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	return p.fill(r, &f)
}

func (p *Part) fill(r *reader, f *flatPart) error {
	switch p.Type {
	case PartText, PartThinking, PartRefusal:
		p.Text = f.text
	case PartCitation:
		p.Citation = &Citation{Text: f.text, URL: f.url, Title: f.title}
	case PartImage, PartAudio, PartVideo, PartDocument, PartBinary:
		m := f.media
		m.URL = f.url
		p.Media = &m
	case PartToolCall:
		p.ToolCall = &ToolCall{ID: f.id, Name: f.name, Input: orElse(f.input, "{}")}
	case PartToolResult:
		p.ToolResult = &ToolResult{ID: f.id, Name: f.name, Content: f.content, IsError: f.isError}
	case PartData:
		if f.value == nil {
			return r.errorf("a data part has no value")
		}
		p.Data = &Data{Value: f.value, Method: f.method}
		if f.probabilities != nil {
			if err := json.Unmarshal(f.probabilities, &p.Data.Probabilities); err != nil {
				return r.errorf("probabilities: %v", err)
			}
		}
	default:
		return r.errorf("%q is not a kind of part", p.Type)
	}
	return nil
}

func (r *reader) continuations(dst *[]Continuation) error {
	return r.array(func() error {
		*dst = append(*dst, Continuation{})
		return (*dst)[len(*dst)-1].decode(r)
	})
}

func (c *Continuation) decode(r *reader) error {
	c.Data = json.RawMessage("{}")
	return r.object(func(key []byte) error {
		switch string(key) {
		case "provider":
			return r.str(&c.Provider)
		case "kind":
			return r.str(&c.Kind)
		case "data":
			return r.rawObject(&c.Data)
		default:
			return r.skip()
		}
	})
}

func (t *Tool) decode(r *reader) error {
	t.Type = ToolFunction
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str((*string)(&t.Type))
		case "name":
			return r.str(&t.Name)
		case "description":
			return r.str(&t.Description)
		case "parameters":
			return r.rawObject(&t.Parameters)
		case "config":
			return r.rawObject(&t.Config)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	switch {
	case t.Type == ToolFunction:
		t.Parameters, t.Config = orElse(t.Parameters, noParameters), nil
	case t.Type == ToolBuiltin:
		t.Parameters = nil
	default:
		return r.errorf("%q is not a kind of tool", t.Type)
	}
	return nil
}

func (c *Config) decode(r *reader) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "max_tokens":
			return r.intPtr(&c.MaxTokens)
		case "temperature":
			return r.floatPtr(&c.Temperature)
		case "top_p":
			return r.floatPtr(&c.TopP)
		case "top_k":
			return r.intPtr(&c.TopK)
		case "stop":
			return r.strs(&c.Stop)
		case "response_format":
			return decodeInto(r, &c.ResponseFormat, (*ResponseFormat).decode)
		case "tool_choice":
			return decodeInto(r, &c.ToolChoice, (*ToolChoice).decode)
		case "reasoning":
			return decodeInto(r, &c.Reasoning, (*Reasoning).decode)
		case "cache":
			return decodeInto(r, &c.Cache, (*CacheConfig).decode)
		case "seed":
			return r.int64Ptr(&c.Seed)
		case "frequency_penalty":
			return r.floatPtr(&c.FrequencyPenalty)
		case "presence_penalty":
			return r.floatPtr(&c.PresencePenalty)
		case "service_tier":
			return r.str(&c.ServiceTier)
		case "user_id":
			return r.str(&c.UserID)
		case "store":
			return r.boolPtr(&c.Store)
		case "logprobs":
			return r.intPtr(&c.Logprobs)
		case "probabilities":
			return r.str(&c.Probabilities)
		case "extensions":
			return r.rawObject(&c.Extensions)
		default:
			return r.skip()
		}
	})
}

// decodeInto allocates *dst and decodes it, unless null comes next.
func decodeInto[T any](r *reader, dst **T, decode func(*T, *reader) error) error {
	if r.null() {
		return nil
	}
	*dst = new(T)
	return decode(*dst, r)
}

func (f *ResponseFormat) decode(r *reader) error {
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str(&f.Type)
		case "name":
			return r.str(&f.Name)
		case "schema":
			return r.rawObject(&f.Schema)
		case "strict":
			return r.boolPtr(&f.Strict)
		default:
			return r.skip()
		}
	})
	if err == nil && f.Type != FormatJSONObject && f.Type != FormatJSONSchema {
		return r.errorf("%q is not a response format", f.Type)
	}
	return err
}

func (t *ToolChoice) decode(r *reader) error {
	t.Mode = ToolsAuto
	return r.object(func(key []byte) error {
		switch string(key) {
		case "mode":
			return r.str(&t.Mode)
		case "allowed":
			return r.strs(&t.Allowed)
		case "parallel":
			return r.boolPtr(&t.Parallel)
		default:
			return r.skip()
		}
	})
}

func (t *Reasoning) decode(r *reader) error {
	t.Effort = "medium"
	return r.object(func(key []byte) error {
		switch string(key) {
		case "effort":
			return r.str(&t.Effort)
		case "thinking_budget":
			return r.intPtr(&t.ThinkingBudget)
		case "summary":
			return r.str(&t.Summary)
		default:
			return r.skip()
		}
	})
}

func (c *CacheConfig) decode(r *reader) error {
	c.Mode = "auto"
	return r.object(func(key []byte) error {
		switch string(key) {
		case "mode":
			return r.str(&c.Mode)
		case "retention":
			return r.str(&c.Retention)
		case "key":
			return r.str(&c.Key)
		case "prefix_until_index":
			return r.intPtr(&c.PrefixUntilIndex)
		case "prefix":
			return r.str(&c.Prefix)
		case "resource":
			return r.str(&c.Resource)
		default:
			return r.skip()
		}
	})
}

func (q *Response) decode(r *reader) error {
	complete := true
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "id":
			return r.str(&q.ID)
		case "model":
			return r.str(&q.Model)
		case "message":
			return q.Message.decode(r)
		case "finish_reason":
			return r.finishReason(&q.FinishReason)
		case "usage":
			return q.Usage.decode(r)
		case "logprobs":
			return r.logprobs(&q.Logprobs)
		case "logprobs_complete":
			return r.boolean(&complete)
		case "provider_data":
			return r.rawObject(&q.ProviderData)
		case "adaptations":
			return r.adaptations(&q.Adaptations)
		default:
			return r.skip()
		}
	})
	q.LogprobsIncomplete = !complete
	return err
}

func (r *reader) finishReason(dst *FinishReason) error {
	if err := r.str((*string)(dst)); err != nil {
		return err
	}
	switch *dst {
	case "", FinishStop, FinishLength, FinishToolCall, FinishContentFilter, FinishError:
		return nil
	default:
		return r.errorf("%q is not a finish reason", *dst)
	}
}

func (u *Usage) decode(r *reader) error {
	return r.object(func(key []byte) error {
		for f := range usageFields {
			if string(key) != usageNames[f] {
				continue
			}
			if r.null() {
				return nil
			}
			var n int64
			if err := r.integer(&n); err != nil {
				return err
			}
			u.Set(f, n)
			return nil
		}
		return r.skip()
	})
}

func (r *reader) logprobs(dst *[]TokenLogprob) error {
	return r.array(func() error {
		*dst = append(*dst, TokenLogprob{})
		t := &(*dst)[len(*dst)-1]
		return t.decode(r, &t.Top)
	})
}

// decode reads a token; top is where its alternatives go, nil for an alternative.
func (l *Logprob) decode(r *reader, top *[]Logprob) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "token":
			return r.str(&l.Token)
		case "logprob":
			return r.float(&l.Logprob)
		case "bytes":
			if r.null() {
				return nil
			}
			l.Bytes = []byte{}
			return r.array(func() error {
				var n int64
				if err := r.integer(&n); err != nil {
					return err
				}
				if n < 0 || n > 255 {
					return r.errorf("%d is not a byte", n)
				}
				l.Bytes = append(l.Bytes, byte(n))
				return nil
			})
		case "token_id":
			return r.intPtr(&l.TokenID)
		case "top":
			if top == nil {
				return r.skip()
			}
			return r.array(func() error {
				*top = append(*top, Logprob{})
				return (*top)[len(*top)-1].decode(r, nil)
			})
		default:
			return r.skip()
		}
	})
}

func (r *reader) adaptations(dst *[]Adaptation) error {
	return r.array(func() error {
		var a Adaptation
		err := r.object(func(key []byte) error {
			switch string(key) {
			case "field":
				return r.str(&a.Field)
			case "action":
				return r.str(&a.Action)
			case "reason":
				return r.str(&a.Reason)
			case "asked":
				return r.raw(&a.Asked)
			case "applied":
				return r.raw(&a.Applied)
			default:
				return r.skip()
			}
		})
		*dst = append(*dst, a)
		return err
	})
}

func (e *Event) decode(r *reader) error {
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str((*string)(&e.Type))
		case "id":
			return r.str(&e.ID)
		case "model":
			return r.str(&e.Model)
		case "adaptations":
			return r.adaptations(&e.Adaptations)
		case "delta":
			return decodeInto(r, &e.Delta, (*Delta).decode)
		case "finish_reason":
			return r.finishReason(&e.FinishReason)
		case "usage":
			return decodeInto(r, &e.Usage, (*Usage).decode)
		case "provider_data":
			return r.rawObject(&e.ProviderData)
		case "error":
			return decodeInto(r, &e.Error, (*ErrorDetail).decode)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	switch {
	case e.Type == EventDelta && e.Delta == nil:
		return r.errorf("a delta event has no delta")
	case e.Type == EventError && e.Error == nil:
		return r.errorf("an error event has no error")
	case e.Type != EventStart && e.Type != EventDelta && e.Type != EventEnd && e.Type != EventError:
		return r.errorf("%q is not a kind of event", e.Type)
	}
	return nil
}

func (d *ErrorDetail) decode(r *reader) error {
	return r.object(func(key []byte) error {
		switch string(key) {
		case "code":
			return r.str(&d.Code)
		case "message":
			return r.str(&d.Message)
		case "provider_code":
			return r.str(&d.ProviderCode)
		case "http_response":
			return r.rawObject(&d.HTTPResponse)
		default:
			return r.skip()
		}
	})
}

func (d *Delta) decode(r *reader) error {
	var (
		index               *int
		media               MediaDelta
		text, url, title    *string
		continuation        Continuation
		data                json.RawMessage
		logprobsAreComplete = true
	)
	err := r.object(func(key []byte) error {
		switch string(key) {
		case "type":
			return r.str((*string)(&d.Type))
		case "part_index":
			return r.intPtr(&index)
		case "text":
			return r.strPtr(&text)
		case "logprobs":
			return r.logprobs(&d.Logprobs)
		case "logprobs_complete":
			return r.boolean(&logprobsAreComplete)
		case "input":
			return r.str(&d.Input)
		case "id":
			return r.str(&d.ID)
		case "name":
			return r.str(&d.Name)
		case "data": // base64 text of media, or the object of a continuation
			return r.raw(&data)
		case "url":
			return r.strPtr(&url)
		case "title":
			return r.strPtr(&title)
		case "file_id":
			return r.strPtr(&media.FileID)
		case "media_type":
			return r.str(&media.MediaType)
		case "provider":
			return r.str(&continuation.Provider)
		case "kind":
			return r.str(&continuation.Kind)
		default:
			return r.skip()
		}
	})
	if err != nil {
		return err
	}
	if index != nil {
		d.PartIndex = *index
	}
	switch d.Type {
	case DeltaText, DeltaThinking:
		if text != nil {
			d.Text = *text
		}
		d.LogprobsIncomplete = !logprobsAreComplete
	case DeltaToolCall:
	case DeltaAudio, DeltaImage:
		media.URL = url
		if len(data) > 0 {
			if err := (&reader{b: data}).strPtr(&media.Data); err != nil {
				return r.errorf("the data of a media delta is no string")
			}
		}
		d.Media = &media
	case DeltaCitation:
		d.Citation = &CitationDelta{Text: text, URL: url, Title: title}
	case DeltaContinuation:
		d.WholeMessage = index == nil
		continuation.Data = json.RawMessage("{}")
		if err := (&reader{b: orElse(data, "null")}).rawObject(&continuation.Data); err != nil {
			return r.errorf("the data of a continuation is no object")
		}
		d.Continuation = &continuation
	default:
		return r.errorf("%q is not a kind of delta", d.Type)
	}
	return nil
}
