package lm

import (
	"encoding/json"
	"errors"
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
		return nil, errors.New("lm: a request needs a model and at least one message")
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
		return nil, errors.New("lm: a response needs a model, a finish reason and at least one part")
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

func (r *Request) decode(d *reader) error {
	return d.object(func(key []byte) error {
		switch string(key) {
		case "model":
			return d.str(&r.Model)
		case "system":
			if d.peek() == '[' {
				return d.parts(&r.SystemParts)
			}
			return d.str(&r.System)
		case "messages":
			return d.array(func() error {
				r.Messages = append(r.Messages, Message{})
				return r.Messages[len(r.Messages)-1].decode(d)
			})
		case "tools":
			return d.array(func() error {
				r.Tools = append(r.Tools, Tool{})
				return r.Tools[len(r.Tools)-1].decode(d)
			})
		case "config":
			return r.Config.decode(d)
		default:
			return d.skip()
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
	switch t.Type {
	case ToolFunction:
		t.Parameters, t.Config = orElse(t.Parameters, noParameters), nil
	case ToolBuiltin:
		t.Parameters = nil
	default:
		return r.errorf("%q is not a kind of tool", t.Type)
	}
	return nil
}
