package openai_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/openai"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const canary = "sk-canary-0123456789"

// server is an endpoint that answers with handler and records the bodies it got.
type server struct {
	*httptest.Server
	bodies chan []byte
}

func serve(tb testing.TB, handler http.HandlerFunc) *server {
	tb.Helper()
	s := &server{bodies: make(chan []byte, 100)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/chat/completions" || r.Method != http.MethodPost {
			http.NotFound(w, r)
			return
		}
		body, err := io.ReadAll(r.Body)
		if err != nil {
			tb.Error(err)
		}
		s.bodies <- body
		handler(w, r)
	}))
	tb.Cleanup(s.Close)
	return s
}

func (s *server) model(tb testing.TB, change func(*openai.Config)) *openai.Model {
	tb.Helper()
	config := openai.Config{Model: "gpt-x", BaseURL: s.URL + "/v1", APIKey: canary}
	if change != nil {
		change(&config)
	}
	m, err := openai.New(config)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(m.CloseIdleConnections)
	return m
}

func reply(status int, contentType, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		for i := 0; i+1 < len(headers); i += 2 {
			w.Header().Set(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func ok(body string) http.HandlerFunc {
	return reply(http.StatusOK, "application/json", body, "X-Request-Id", "req_1")
}

func sse(chunks ...string) http.HandlerFunc {
	var b strings.Builder
	for _, c := range chunks {
		fmt.Fprintf(&b, "data: %s\n\n", c)
	}
	return reply(http.StatusOK, "text/event-stream; charset=utf-8", b.String(), "X-Request-Id", "req_1")
}

func hello() *lm.Request {
	return &lm.Request{Model: "go/default", Messages: []lm.Message{lm.User(lm.Text("Hi <b>"))}}
}

const completion = `{"id":"c1","object":"chat.completion","created":1,"model":"gpt-x-2026","system_fingerprint":"fp",
	"choices":[{"index":0,"message":{"role":"assistant","content":"Hello","refusal":null},"finish_reason":"stop","logprobs":null}],
	"usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11,
		"prompt_tokens_details":{"cached_tokens":4,"audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":1}}}`

func usage() lm.Usage {
	u := lm.Usage{InputTokens: 9, OutputTokens: 2, TotalTokens: 11, CacheReadTokens: 4, ReasoningTokens: 1}
	u.Set(lm.UsageInputAudio, 0)
	return u
}

func TestAnAnswerBecomesACanonicalResponse(t *testing.T) {
	for name, tc := range map[string]struct {
		body string
		want *lm.Response
	}{
		"text": {completion, &lm.Response{
			ID: "c1", Model: "gpt-x-2026", Message: lm.Assistant(lm.Text("Hello")), FinishReason: lm.FinishStop,
			Usage: usage(), ProviderData: json.RawMessage(`{"created":1,"system_fingerprint":"fp"}`),
		}},
		"tool calls": {`{"choices":[{"finish_reason":"stop","message":{"content":null,"tool_calls":[
			{"id":"a","type":"function","function":{"name":"f","arguments":"{\"x\":1}"}},
			{"type":"function","function":{"name":"g","arguments":"{\"x"}}]}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishToolCall, Message: lm.Assistant(
				lm.ToolCallPart("a", "f", json.RawMessage(`{"x":1}`)),
				lm.ToolCallPart("call_1", "g", json.RawMessage(`{"partial_json":"{\"x"}`))),
		}},
		"refusal": {`{"choices":[{"finish_reason":"content_filter","message":{"content":null,"refusal":"No."}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishContentFilter, Message: lm.Assistant(lm.Refusal("No.")),
		}},
		"thinking": {`{"choices":[{"finish_reason":"length","message":{"content":"a","reasoning_content":"hm"}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishLength, Message: lm.Assistant(lm.Thinking("hm"), lm.Text("a")),
		}},
		"thinking, other name": {`{"choices":[{"message":{"content":"a","reasoning":"hm"}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Thinking("hm"), lm.Text("a")),
		}},
		"list content": {`{"choices":[{"message":{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Text("a"), lm.Text("b")),
		}},
		"citations": {`{"choices":[{"message":{"content":"a","annotations":[
			{"type":"url_citation","url_citation":{"url":"https://e.com","title":"T","start_index":0,"end_index":1}}]}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Text("a"),
				lm.Part{Type: lm.PartCitation, Citation: &lm.Citation{URL: "https://e.com", Title: "T"}}),
		}},
		"nothing": {`{"choices":[{"message":{"content":null}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Text("")),
		}},
		"logprobs": {`{"choices":[{"message":{"content":"a"},"logprobs":{"content":[
			{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[{"token":"b","logprob":-2,"bytes":null}]}]}}]}`, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Text("a")),
			Logprobs: []lm.TokenLogprob{{
				Logprob: lm.Logprob{Token: "a", Logprob: -0.5, Bytes: []byte("a")},
				Top:     []lm.Logprob{{Token: "b", Logprob: -2}},
			}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := serve(t, ok(tc.body)).model(t, nil).Complete(t.Context(), hello())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestAStreamAddsUpToTheAnswer(t *testing.T) {
	for name, tc := range map[string]struct {
		chunks []string
		want   *lm.Response
	}{
		"text and usage": {[]string{
			`{"id":"c1","model":"gpt-x-2026","choices":[{"index":0,"delta":{"role":"assistant","content":""}}]}`,
			`{"id":"c1","choices":[{"index":0,"delta":{"content":"Hel"},"logprobs":{"content":[{"token":"Hel","logprob":-1,"bytes":null,"top_logprobs":[]}]}}]}`,
			`{"id":"c1","choices":[{"index":0,"delta":{"content":"lo"},"finish_reason":null}]}`,
			`{"id":"c1","choices":[{"index":0,"delta":{},"finish_reason":"length"}]}`,
			`{"id":"c1","choices":[],"system_fingerprint":"fp","usage":{"prompt_tokens":9,"completion_tokens":2,"total_tokens":11}}`,
			`[DONE]`,
		}, &lm.Response{
			ID: "c1", Model: "gpt-x-2026", Message: lm.Assistant(lm.Text("Hello")), FinishReason: lm.FinishLength,
			Usage:        lm.Usage{InputTokens: 9, OutputTokens: 2, TotalTokens: 11},
			Logprobs:     []lm.TokenLogprob{{Logprob: lm.Logprob{Token: "Hel", Logprob: -1}}},
			ProviderData: json.RawMessage(`{"system_fingerprint":"fp"}`),
		}},
		"thinking, no done mark": {[]string{
			`{"choices":[{"delta":{"reasoning_content":"h"}}]}`, `{"choices":[{"delta":{"reasoning":"m"}}]}`,
			`{"choices":[{"delta":{"content":"a"},"finish_reason":"stop"}]}`,
		}, &lm.Response{Model: "gpt-x", FinishReason: lm.FinishStop, Message: lm.Assistant(lm.Thinking("hm"), lm.Text("a"))}},
		"two tool calls in fragments": {[]string{
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"id":"a","function":{"name":"f","arguments":""}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":0,"function":{"arguments":"{\"x\""}},{"index":1,"id":"b","function":{"name":"g","arguments":"{"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"index":1,"function":{"arguments":"}"}},{"index":0,"function":{"arguments":":1}"}}]}}]}`,
			`{"choices":[{"delta":{},"finish_reason":"tool_calls"}]}`,
		}, &lm.Response{Model: "gpt-x", FinishReason: lm.FinishToolCall, Message: lm.Assistant(
			lm.ToolCallPart("a", "f", json.RawMessage(`{"x":1}`)), lm.ToolCallPart("b", "g", json.RawMessage(`{}`)))}},
		"two tool calls without an index": {[]string{
			`{"choices":[{"delta":{"tool_calls":[{"id":"a","function":{"name":"f","arguments":"{}"}}]}}]}`,
			`{"choices":[{"delta":{"tool_calls":[{"id":"b","function":{"name":"f","arguments":"{}"}}]},"finish_reason":"stop"}]}`,
		}, &lm.Response{Model: "gpt-x", FinishReason: lm.FinishToolCall, Message: lm.Assistant(
			lm.ToolCallPart("a", "f", json.RawMessage(`{}`)), lm.ToolCallPart("b", "f", json.RawMessage(`{}`)))}},
		"refusal": {[]string{
			`{"choices":[{"delta":{"refusal":"No"}}]}`, `{"choices":[{"delta":{"refusal":"."},"finish_reason":"stop"}]}`,
		}, &lm.Response{
			Model: "gpt-x", FinishReason: lm.FinishContentFilter, Message: lm.Assistant(lm.Text("")),
			ProviderData: json.RawMessage(`{"refusal":"No."}`),
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, sse(tc.chunks...))
			got, err := lm.Collect("", s.model(t, nil).Stream(t.Context(), hello()))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Error(diff)
			}
			var body struct {
				Stream  bool            `json:"stream"`
				Options map[string]bool `json:"stream_options"`
			}
			if err := json.Unmarshal(<-s.bodies, &body); err != nil || !body.Stream || !body.Options["include_usage"] {
				t.Errorf("asked for %+v, %v", body, err)
			}
		})
	}
}

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
			lm.ToolResults(lm.ToolResultPart("1", lm.Image(lm.Media{Data: "AA=="})))}},
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

func TestEachKindOfFailureIsATypedError(t *testing.T) {
	future := time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)
	const j = "application/json"
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    lm.Error
		says    string
	}{
		"rate limit": {
			reply(429, j, `{"error":{"message":"Slow down","type":"requests","code":"rate_limit_exceeded"}}`, "Retry-After", "1", "X-Request-Id", "req_9"),
			lm.Error{Kind: lm.KindRateLimit, Status: 429, Code: "rate_limit_exceeded", RequestID: "req_9", RetryAfter: time.Second}, "Slow down",
		},
		"rate limit, fraction": {reply(429, j, `{}`, "Retry-After", "0.25"), lm.Error{Kind: lm.KindRateLimit, Status: 429, RetryAfter: 250 * time.Millisecond}, ""},
		"rate limit, ms":       {reply(429, j, `{}`, "Retry-After-Ms", "30", "Retry-After", "9"), lm.Error{Kind: lm.KindRateLimit, Status: 429, RetryAfter: 30 * time.Millisecond}, ""},
		"rate limit, nonsense": {reply(429, j, `{}`, "Retry-After", "soon"), lm.Error{Kind: lm.KindRateLimit, Status: 429}, ""},
		"rate limit, past":     {reply(429, j, `{}`, "Retry-After", "-5"), lm.Error{Kind: lm.KindRateLimit, Status: 429}, ""},
		"busy until a date":    {reply(503, j, `{"error":{"message":"busy"}}`, "Retry-After", future), lm.Error{Kind: lm.KindServer, Status: 503, RetryAfter: time.Hour}, "busy"},
		"quota": {
			reply(429, j, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`),
			lm.Error{Kind: lm.KindBilling, Status: 429, Code: "insufficient_quota"}, "quota",
		},
		"payment": {reply(402, j, `{"error":{"message":"pay","code":402}}`), lm.Error{Kind: lm.KindBilling, Status: 402, Code: "402"}, "pay"},
		"key": {
			reply(401, j, `{"error":{"message":"Incorrect API key provided: `+canary+`.","type":"invalid_request_error","code":"invalid_api_key"}}`),
			lm.Error{Kind: lm.KindAuth, Status: 401, Code: "invalid_api_key"}, "provided: [secret].",
		},
		"forbidden": {reply(403, j, `{"error":{"message":"no"}}`), lm.Error{Kind: lm.KindAuth, Status: 403}, "no"},
		"context": {
			reply(400, j, `{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400, Code: "context_length_exceeded"}, "8192",
		},
		"context, llama.cpp": {
			reply(400, j, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400, Code: "exceed_context_size_error"}, "available context",
		},
		"context, vLLM": {
			reply(400, j, `{"object":"error","message":"This model's maximum context length is 2048 tokens.","code":400}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400}, "2048",
		},
		"invalid":         {reply(400, j, `{"error":{"message":"bad","type":"invalid_request_error","code":null}}`), lm.Error{Kind: lm.KindInvalidRequest, Status: 400, Code: "invalid_request_error"}, "bad"},
		"unprocessable":   {reply(422, j, `{"detail":[{"msg":"field required"}]}`), lm.Error{Kind: lm.KindInvalidRequest, Status: 422}, "field required"},
		"model":           {reply(404, j, `{"error":{"message":"The model 'x' does not exist","code":"model_not_found"}}`), lm.Error{Kind: lm.KindUnsupportedModel, Status: 404, Code: "model_not_found"}, "'x'"},
		"model, ollama":   {reply(404, j, `{"error":"model \"x\" not found, try pulling it first"}`), lm.Error{Kind: lm.KindUnsupportedModel, Status: 404}, "pulling"},
		"no such path":    {reply(404, "text/plain", "404 page not found"), lm.Error{Kind: lm.KindInvalidRequest, Status: 404}, "check the base URL"},
		"server":          {reply(500, j, `{"error":{"message":"oops","type":"server_error"}}`), lm.Error{Kind: lm.KindServer, Status: 500, Code: "server_error"}, "oops"},
		"server, empty":   {reply(500, j, ``), lm.Error{Kind: lm.KindServer, Status: 500}, "no explanation"},
		"proxy":           {reply(502, "text/html", "<html><head><title>502 Bad Gateway</title></head>"), lm.Error{Kind: lm.KindServer, Status: 502}, "HTML page, perhaps of a proxy: 502 Bad Gateway"},
		"gateway timeout": {reply(504, "text/plain", "upstream request timeout"), lm.Error{Kind: lm.KindTimeout, Status: 504}, "upstream"},
		"request timeout": {reply(408, j, `{}`), lm.Error{Kind: lm.KindTimeout, Status: 408}, ""},
		"error in a 200": {
			ok(`{"error":{"message":"Upstream is overloaded","code":502}}`),
			lm.Error{Kind: lm.KindServer, Status: 200, Code: "502", RequestID: "req_1"}, "overloaded",
		},
		"no choices":      {ok(`{"id":"x","choices":[]}`), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, "no choices"},
		"not an object":   {ok(`[]`), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, ""},
		"not JSON":        {ok(`{"id":`), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, "cannot be read"},
		"HTML in a 200":   {reply(200, "text/html", "<html>login</html>"), lm.Error{Kind: lm.KindProvider, Status: 200}, "text/html"},
		"a nameless call": {ok(`{"choices":[{"message":{"tool_calls":[{"id":"a","type":"function","function":{"arguments":"{}"}}]}}]}`), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, "without naming"},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, tc.handler)
			_, err := s.model(t, nil).Complete(t.Context(), hello())
			check(t, err, tc.want, tc.says)
			if calls := len(s.bodies); calls != 1 {
				t.Errorf("%d calls", calls)
			}
		})
	}
}

func check(tb testing.TB, err error, want lm.Error, says string) {
	tb.Helper()
	got, ok := errors.AsType[*lm.Error](err)
	if !ok {
		tb.Fatalf("got %v", err)
	}
	got = new(*got)
	if d := got.RetryAfter - want.RetryAfter; want.RetryAfter == time.Hour && d.Abs() < 5*time.Second {
		got.RetryAfter = want.RetryAfter // A date is as exact as the clock.
	}
	if !strings.Contains(got.Message, says) {
		tb.Errorf("message %q does not say %q", got.Message, says)
	}
	want.Provider, want.Message, want.Err = "openai", got.Message, got.Err
	if *got != want {
		tb.Errorf("got  %#v\nwant %#v", *got, want)
	}
	for _, text := range []string{err.Error(), fmt.Sprintf("%v %+v %#v", err, got, got)} {
		if strings.Contains(text, canary) {
			tb.Errorf("the key is in %q", text)
		}
	}
}

func TestAFailingStreamIsATypedError(t *testing.T) {
	const chunk = `{"choices":[{"delta":{"content":"a"}}]}`
	for name, tc := range map[string]struct {
		handler http.HandlerFunc
		want    lm.Error
		says    string
	}{
		"before it starts": {
			reply(429, "application/json", `{"error":{"message":"Slow","code":"rate_limit_exceeded"}}`, "Retry-After", "2"),
			lm.Error{Kind: lm.KindRateLimit, Status: 429, Code: "rate_limit_exceeded", RetryAfter: 2 * time.Second}, "Slow",
		},
		"in the middle": {
			sse(chunk, `{"error":{"message":"oops","type":"server_error","code":500}}`),
			lm.Error{Kind: lm.KindServer, Status: 200, Code: "server_error", RequestID: "req_1"}, "oops",
		},
		"stops early":      {sse(chunk), lm.Error{Kind: lm.KindTransport, RequestID: "req_1"}, "stops before"},
		"done, unfinished": {sse(chunk, `[DONE]`), lm.Error{Kind: lm.KindTransport, RequestID: "req_1"}, "stops before"},
		"empty":            {sse(), lm.Error{Kind: lm.KindProvider, RequestID: "req_1"}, "no chunks"},
		"not JSON":         {sse(chunk, `{"cho`), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, "cannot be read"},
		"no stream":        {ok(completion), lm.Error{Kind: lm.KindProvider, Status: 200, RequestID: "req_1"}, "not an event stream"},
		"HTML":             {reply(200, "text/html", "<title>Log in</title>"), lm.Error{Kind: lm.KindProvider, Status: 200}, "Log in"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := lm.Collect("", serve(t, tc.handler).model(t, nil).Stream(t.Context(), hello()))
			check(t, err, tc.want, tc.says)
		})
	}
}

// cut answers with the beginning of an answer and then breaks the connection.
func cut(contentType, begin string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		w.Header().Set("Content-Length", "10000")
		_, _ = io.WriteString(w, begin)
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
}

func TestABrokenConnectionIsATransportError(t *testing.T) {
	t.Run("in an answer", func(t *testing.T) {
		_, err := serve(t, cut("application/json", `{"choices":[`)).model(t, nil).Complete(t.Context(), hello())
		check(t, err, lm.Error{Kind: lm.KindTransport}, "cannot reach http://127.0.0.1")
	})
	t.Run("in a stream", func(t *testing.T) {
		begin := "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"
		var texts []string
		var last error
		for e, err := range serve(t, cut("text/event-stream", begin)).model(t, nil).Stream(t.Context(), hello()) {
			if e.Delta != nil {
				texts = append(texts, e.Delta.Text)
			}
			last = err
		}
		check(t, last, lm.Error{Kind: lm.KindTransport}, "cannot reach")
		if diff := cmp.Diff([]string{"a"}, texts); diff != "" {
			t.Error(diff)
		}
	})
	t.Run("before it", func(t *testing.T) {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := listener.Addr().String()
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
		m, err := openai.New(openai.Config{BaseURL: "http://u:" + canary + "@" + address + "/v1?key=" + canary})
		if err != nil {
			t.Fatal(err)
		}
		_, err = m.Complete(t.Context(), hello())
		check(t, err, lm.Error{Kind: lm.KindTransport}, "cannot reach http://"+address)
	})
}

// hang answers with begin and then nothing until the client is gone.
func hang(contentType, begin string) (http.HandlerFunc, <-chan struct{}) {
	gone := make(chan struct{})
	return func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = io.WriteString(w, begin)
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
		close(gone)
	}, gone
}

func TestCancelingReachesTheServer(t *testing.T) {
	t.Run("a slow body", func(t *testing.T) {
		handler, gone := hang("application/json", `{"choices":`)
		s := serve(t, handler)
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-s.bodies
			cancel()
		}()
		_, err := s.model(t, nil).Complete(ctx, hello())
		if !errors.Is(err, context.Canceled) || lm.KindOf(err) != 0 {
			t.Errorf("got %v", err)
		}
		<-gone
	})
	t.Run("a stream that is left", func(t *testing.T) {
		handler, gone := hang("text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		for e := range serve(t, handler).model(t, nil).Stream(t.Context(), hello()) {
			if e.Delta != nil {
				break
			}
		}
		<-gone
	})
	t.Run("a stream whose context ends", func(t *testing.T) {
		handler, gone := hang("text/event-stream", "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n")
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		var last error
		for e, err := range serve(t, handler).model(t, nil).Stream(ctx, hello()) {
			if e.Delta != nil {
				cancel()
			}
			last = err
		}
		if !errors.Is(last, context.Canceled) {
			t.Errorf("got %v", last)
		}
		<-gone
	})
}

func TestTheModelsOwnTimeoutIsATypedError(t *testing.T) {
	short := func(c *openai.Config) { c.Timeout = 30 * time.Millisecond }
	check := func(t *testing.T, err error, gone <-chan struct{}) {
		t.Helper()
		if lm.KindOf(err) != lm.KindTimeout || !strings.Contains(err.Error(), "no answer within 30ms") {
			t.Errorf("got %v", err)
		}
		<-gone
	}
	t.Run("complete", func(t *testing.T) {
		handler, gone := hang("application/json", `{"choices":`)
		_, err := serve(t, handler).model(t, short).Complete(t.Context(), hello())
		check(t, err, gone)
	})
	t.Run("stream", func(t *testing.T) {
		handler, gone := hang("text/event-stream", ": wait\n\n")
		_, err := lm.Collect("", serve(t, handler).model(t, short).Stream(t.Context(), hello()))
		check(t, err, gone)
	})
}

func TestTheKeyIsSentAndShownNowhere(t *testing.T) {
	var authorization, organization string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		authorization, organization = r.Header.Get("Authorization"), r.Header.Get("OpenAI-Organization")+r.Header.Get("X-Mine")
		ok(completion)(w, r)
	})
	config := openai.Config{Model: "m", BaseURL: s.URL + "/v1", APIKey: canary, Organization: "org", Header: http.Header{"X-Mine": {"1"}}}
	m := s.model(t, func(c *openai.Config) { *c = config })
	if _, err := m.Complete(t.Context(), hello()); err != nil {
		t.Fatal(err)
	}
	if authorization != "Bearer "+canary || organization != "org1" {
		t.Errorf("sent %q, %q", authorization, organization)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "%v %+v %#v %s %q", config, config, config, config, &config)
	if strings.Contains(out.String(), canary) {
		t.Errorf("the key is in %s", out.String())
	}
	if strings.Contains(string(<-s.bodies), canary) {
		t.Error("the key is in the body")
	}
}

func TestAServerWithoutKeysGetsNone(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", canary) // Must not be read.
	var got []string
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r.Header.Values("Authorization")
		ok(completion)(w, r)
	})
	if _, err := s.model(t, func(c *openai.Config) { c.APIKey = "" }).Complete(t.Context(), hello()); err != nil || got != nil {
		t.Errorf("sent %v, %v", got, err)
	}
}

func TestSettingsThatCannotWorkAreRefusedAtOnce(t *testing.T) {
	for name, tc := range map[string]struct {
		config openai.Config
		says   string
	}{
		"no key":       {openai.Config{Model: "m"}, "set OPENAI_API_KEY"},
		"no scheme":    {openai.Config{APIKey: canary, BaseURL: "localhost:8080/v1"}, "http://"},
		"no host":      {openai.Config{APIKey: canary, BaseURL: "https:///v1"}, "host"},
		"other scheme": {openai.Config{APIKey: canary, BaseURL: "ftp://e.com?key=" + canary}, `"ftp://e.com"`},
		"unreadable":   {openai.Config{APIKey: canary, BaseURL: "http://" + canary + "@%zz"}, "cannot be read"},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := openai.New(tc.config)
			if m != nil || lm.KindOf(err) != lm.KindNotConfigured || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, %v", m, err)
			}
			if strings.Contains(err.Error(), canary) {
				t.Errorf("the key is in %v", err)
			}
		})
	}
}

func TestFromEnvFillsWhatIsEmpty(t *testing.T) {
	t.Setenv("OPENAI_API_KEY", "k")
	t.Setenv("OPENAI_BASE_URL", "http://env")
	got := openai.FromEnv(openai.Config{BaseURL: "http://mine"})
	if got.APIKey != "k" || got.BaseURL != "http://mine" || got.Proxy == nil {
		t.Errorf("got %+v", got)
	}
}

func TestCapabilitiesFollowTheModelsName(t *testing.T) {
	modern := lm.Capabilities{ResponseSchema: true, JSONObject: true, FunctionCalling: true, Streaming: true}
	reasons, old := modern, modern
	reasons.Reasoning, old.ResponseSchema = true, false
	for model, want := range map[string]lm.Capabilities{
		"gpt-4o-mini": modern, "gpt-4.1": modern, "ft:gpt-4o-mini:x": modern, "o3": reasons, "gpt-5.5": reasons,
		"gpt-3.5-turbo": old, "gpt-4": old, "gpt-4-turbo": old,
	} {
		m, err := openai.New(openai.Config{APIKey: canary})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, lm.CapabilitiesOf(m, model)); diff != "" {
			t.Errorf("%s: %s", model, diff)
		}
	}
	other := openai.Config{BaseURL: "http://localhost:1/v1"}
	m, err := openai.New(other)
	if err != nil {
		t.Fatal(err)
	}
	if got := m.Capabilities("gpt-4o"); got.ResponseSchema || !got.JSONObject {
		t.Errorf("got %+v", got)
	}
	other.Capabilities = &reasons
	if m, err = openai.New(other); err != nil || !cmp.Equal(m.Capabilities(""), reasons) {
		t.Errorf("got %+v, %v", m.Capabilities(""), err)
	}
}
