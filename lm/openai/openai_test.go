package openai_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

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
