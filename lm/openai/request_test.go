package openai_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/openai"
)

// sent returns the body that a request becomes, without what is the same in all.
func sent(tb testing.TB, req *lm.Request, change func(*openai.Config)) string {
	tb.Helper()
	s := serve(tb, ok(completion))
	if _, err := s.model(tb, change).Complete(tb.Context(), req); err != nil {
		tb.Fatal(err)
	}
	return string(<-s.bodies)
}

func likeOpenAI(c *openai.Config) {
	d := openai.OpenAI()
	c.Dialect = &d
}

func TestTheBodyHasEverythingThatTheRequestAsksFor(t *testing.T) {
	schema := json.RawMessage(`{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}`)
	req := &lm.Request{
		Model: "go/default", System: "Be brief.",
		Messages: []lm.Message{
			lm.User(
				lm.Text("look"), lm.Image(lm.Media{MediaType: "image/png", Data: "AAEC", Detail: "low"}),
				lm.Image(lm.Media{URL: "https://e.com/a.jpg?x=1&y=2"}), lm.Audio(lm.Media{MediaType: "audio/mpeg", Data: "AAEC"}),
				lm.Document(lm.Media{MediaType: "application/pdf", Data: "AAEC"}), lm.Document(lm.Media{FileID: "file-1"}),
				lm.Part{Type: lm.PartData, Data: &lm.Data{Value: json.RawMessage(`{"k":1}`)}},
			),
			lm.Assistant(lm.Text("calling"), lm.ToolCallPart("c1", "f", json.RawMessage(`{"x":1}`)), lm.ToolCallPart("c2", "f", nil)),
			lm.ToolResults(lm.ToolResultPart("c1", lm.Text("one"), lm.Text("two")), lm.Part{
				Type:       lm.PartToolResult,
				ToolResult: &lm.ToolResult{ID: "c2", Content: []lm.Part{lm.Text("boom")}, IsError: true},
			}),
			lm.Assistant(lm.Text("t"), lm.Refusal("r")),
			lm.Developer(lm.Text("now formal")),
		},
		Tools: []lm.Tool{
			{Type: lm.ToolFunction, Name: "f", Description: "does f", Parameters: schema},
			{Type: lm.ToolFunction, Name: "g"},
		},
		Config: lm.Config{
			MaxTokens: new(5), Temperature: new(0.0), TopP: new(0.5), Stop: []string{"a", "b"}, Seed: new(int64(0)),
			FrequencyPenalty: new(-1.0), PresencePenalty: new(1.0), ServiceTier: "flex", UserID: "u", Store: new(false),
			Logprobs: new(2), ToolChoice: &lm.ToolChoice{Mode: "auto", Allowed: []string{"f"}, Parallel: new(false)},
			ResponseFormat: &lm.ResponseFormat{Type: lm.FormatJSONSchema, Name: "n", Schema: schema, Strict: new(true)},
			Reasoning:      &lm.Reasoning{Effort: "off"},
			Cache:          &lm.CacheConfig{Key: "k", Retention: "long", Prefix: "stable"},
			Extensions:     json.RawMessage(`{"metadata":{"a":"b"},"logit_bias":{"1":2},"verbosity":"low"}`),
		},
	}
	const want = `{"model":"gpt-x","messages":[
		{"role":"system","content":"Be brief."},
		{"role":"user","content":[{"type":"text","text":"look"},
			{"type":"image_url","image_url":{"url":"data:image/png;base64,AAEC","detail":"low"}},
			{"type":"image_url","image_url":{"url":"https://e.com/a.jpg?x=1&y=2"}},
			{"type":"input_audio","input_audio":{"data":"AAEC","format":"mp3"}},
			{"type":"file","file":{"file_data":"data:application/pdf;base64,AAEC","filename":"document.pdf"}},
			{"type":"file","file":{"file_id":"file-1"}},
			{"type":"text","text":"{\"k\":1}"}]},
		{"role":"assistant","content":"calling","tool_calls":[
			{"id":"c1","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
			{"id":"c2","type":"function","function":{"name":"f","arguments":"{}"}}]},
		{"role":"tool","tool_call_id":"c1","content":"one\ntwo"},
		{"role":"tool","tool_call_id":"c2","content":"[error] boom"},
		{"role":"assistant","content":[{"type":"text","text":"t"},{"type":"refusal","refusal":"r"}]},
		{"role":"developer","content":[{"type":"text","text":"now formal"}]}],
		"tools":[{"type":"function","function":{"name":"f","description":"does f",
				"parameters":{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}}},
			{"type":"function","function":{"name":"g","parameters":{"type":"object","properties":{}}}}],
		"tool_choice":{"type":"allowed_tools","allowed_tools":{"mode":"auto","tools":[{"type":"function","function":{"name":"f"}}]}},
		"parallel_tool_calls":false,"max_completion_tokens":5,"temperature":0,"top_p":0.5,"stop":["a","b"],"seed":0,
		"frequency_penalty":-1,"presence_penalty":1,"service_tier":"flex","user":"u","store":false,"logprobs":true,"top_logprobs":2,
		"response_format":{"type":"json_schema","json_schema":{"name":"n","strict":true,
			"schema":{"type":"object","properties":{"z":{"type":"string"},"a":{"type":"string"}}}}},
		"reasoning_effort":"none","prompt_cache_key":"k","prompt_cache_retention":"24h",
		"metadata":{"a":"b"},"logit_bias":{"1":2},"verbosity":"low"}`
	got := sent(t, req, likeOpenAI)
	var wantTree, gotTree any
	if err := errors.Join(json.Unmarshal([]byte(want), &wantTree), json.Unmarshal([]byte(got), &gotTree)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(wantTree, gotTree); diff != "" {
		t.Error(diff)
	}
	if strings.Count(got, `"z":{"type":"string"},"a"`) != 2 {
		t.Errorf("the order of a schema's properties is lost: %s", got)
	}
}

func TestOtherServersGetWhatTheyUnderstand(t *testing.T) {
	req := hello()
	req.Config = lm.Config{MaxTokens: new(5), TopK: new(3), ToolChoice: &lm.ToolChoice{Mode: "auto"}}
	req.Messages = append(req.Messages, lm.Developer(lm.Text("d")))
	got := sent(t, req, func(c *openai.Config) { c.Model = "" })
	const want = `{"messages":[{"content":"Hi <b>","role":"user"},{"content":[{"text":"d","type":"text"}],"role":"system"}],` +
		`"model":"go/default","max_tokens":5,"top_k":3}`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestToolChoices(t *testing.T) {
	for want, choice := range map[string]lm.ToolChoice{
		`"auto"`:     {},
		`"none"`:     {Mode: "none"},
		`"required"`: {Mode: "required"},
		`{"function":{"name":"f"},"type":"function"}`: {Mode: "required", Allowed: []string{"f"}},
	} {
		req := hello()
		req.Tools = []lm.Tool{{Type: lm.ToolFunction, Name: "f"}}
		req.Config.ToolChoice = &choice
		var body struct {
			Choice json.RawMessage `json:"tool_choice"`
		}
		if err := json.Unmarshal([]byte(sent(t, req, nil)), &body); err != nil || string(body.Choice) != want {
			t.Errorf("got %s, want %s (%v)", body.Choice, want, err)
		}
	}
}

func TestWhatTheProtocolCannotCarryIsRefusedBeforeAnythingIsSent(t *testing.T) {
	media := func(t lm.PartType, m lm.Media) []lm.Message {
		return []lm.Message{lm.User(lm.Part{Type: t, Media: &m})}
	}
	for name, req := range map[string]lm.Request{
		"messages[0].parts[0]: an image has":        {Messages: media(lm.PartImage, lm.Media{Path: "/etc/passwd"})},
		"messages[0].parts[0]: an image has to":     {Messages: media(lm.PartImage, lm.Media{FileID: "f"})},
		"messages[0].parts[0]: audio has to be wav": {Messages: media(lm.PartAudio, lm.Media{MediaType: "audio/ogg", Data: "AA=="})},
		"audio has to be inline":                    {Messages: media(lm.PartAudio, lm.Media{MediaType: "audio/wav", URL: "https://e.com"})},
		"a document has to be inline":               {Messages: media(lm.PartDocument, lm.Media{URL: "https://e.com"})},
		"a video part has no place":                 {Messages: media(lm.PartVideo, lm.Media{Data: "AA=="})},
		"a binary part has no place":                {Messages: media(lm.PartBinary, lm.Media{Data: "AA=="})},
		"an image part has no place": {Messages: []lm.Message{
			lm.ToolResults(lm.ToolResultPart("1", lm.Image(lm.Media{Data: "AA=="}))),
		}},
		"tools[0]: ":                          {Tools: []lm.Tool{{Type: lm.ToolBuiltin, Name: "web_search"}}},
		"config.top_k":                        {Config: lm.Config{TopK: new(1)}},
		"config.reasoning.thinking_budget":    {Config: lm.Config{Reasoning: &lm.Reasoning{Effort: "low", ThinkingBudget: new(1)}}},
		"config.reasoning.summary":            {Config: lm.Config{Reasoning: &lm.Reasoning{Effort: "low", Summary: "detailed"}}},
		"config.cache.resource":               {Config: lm.Config{Cache: &lm.CacheConfig{Resource: "r"}}},
		"config.probabilities":                {Config: lm.Config{Probabilities: "required"}},
		"config.extensions.n: it is no":       {Config: lm.Config{Extensions: json.RawMessage(`{"n":2}`)}},
		"config.extensions: not a JSON":       {Config: lm.Config{Extensions: json.RawMessage(`[]`)}},
		"config.response_format: \"grammar\"": {Config: lm.Config{ResponseFormat: &lm.ResponseFormat{Type: "grammar"}}},
	} {
		t.Run(name, func(t *testing.T) {
			if req.Messages == nil {
				req.Messages = hello().Messages
			}
			s := serve(t, ok(completion))
			m := s.model(t, likeOpenAI)
			_, err := m.Complete(t.Context(), &req)
			if lm.KindOf(err) != lm.KindUnsupportedFeature || !strings.Contains(err.Error(), name) {
				t.Errorf("got %v", err)
			}
			_, err = lm.Collect("", m.Stream(t.Context(), &req))
			if lm.KindOf(err) != lm.KindUnsupportedFeature {
				t.Errorf("streaming: got %v", err)
			}
			if len(s.bodies) > 0 {
				t.Errorf("sent %s", <-s.bodies)
			}
		})
	}
}

func TestWhatIsLeftOutIsRecorded(t *testing.T) {
	req := hello()
	req.Messages = append(req.Messages, lm.Assistant(lm.Thinking("hm"), lm.Text("a")))
	req.Config = lm.Config{Probabilities: "if_available", Reasoning: &lm.Reasoning{Effort: "low", Summary: "auto"}}
	for name, handler := range map[string]http.HandlerFunc{
		"complete": ok(completion), "stream": sse(`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`),
	} {
		t.Run(name, func(t *testing.T) {
			m := serve(t, handler).model(t, nil)
			resp, err := m.Complete(t.Context(), req)
			if name == "stream" {
				resp, err = lm.Collect("", m.Stream(t.Context(), req))
			}
			if err != nil {
				t.Fatal(err)
			}
			var fields []string
			for _, a := range resp.Adaptations {
				fields = append(fields, a.Action+" "+a.Field)
			}
			want := []string{"dropped messages[1].parts[0]", "dropped config.probabilities", "dropped config.reasoning.summary"}
			if diff := cmp.Diff(want, fields); diff != "" {
				t.Error(diff)
			}
		})
	}
}
