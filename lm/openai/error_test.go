package openai_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/openai"
)

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
			lm.Error{Kind: lm.KindRateLimit, Status: 429, Code: "rate_limit_exceeded", RequestID: "req_9", RetryAfter: time.Second},
			"Slow down",
		},
		"rate limit, fraction": {reply(429, j, `{}`, "Retry-After", "0.25"), lm.Error{Kind: lm.KindRateLimit, Status: 429, RetryAfter: 250 * time.Millisecond}, ""},
		"rate limit, ms":       {reply(429, j, `{}`, "Retry-After-Ms", "30", "Retry-After", "9"), lm.Error{Kind: lm.KindRateLimit, Status: 429, RetryAfter: 30 * time.Millisecond}, ""},
		"rate limit, nonsense": {reply(429, j, `{}`, "Retry-After", "soon"), lm.Error{Kind: lm.KindRateLimit, Status: 429}, ""},
		"rate limit, past":     {reply(429, j, `{}`, "Retry-After", "-5"), lm.Error{Kind: lm.KindRateLimit, Status: 429}, ""},
		"busy until a date":    {reply(503, j, `{"error":{"message":"busy"}}`, "Retry-After", future), lm.Error{Kind: lm.KindServer, Status: 503, RetryAfter: time.Hour}, "busy"},
		"quota": {
			reply(429, j, `{"error":{"message":"You exceeded your current quota","type":"insufficient_quota","code":"insufficient_quota"}}`),
			lm.Error{Kind: lm.KindBilling, Status: 429, Code: "insufficient_quota"},
			"quota",
		},
		"payment": {reply(402, j, `{"error":{"message":"pay","code":402}}`), lm.Error{Kind: lm.KindBilling, Status: 402, Code: "402"}, "pay"},
		"key": {
			reply(401, j, `{"error":{"message":"Incorrect API key provided: `+canary+`.","type":"invalid_request_error","code":"invalid_api_key"}}`),
			lm.Error{Kind: lm.KindAuth, Status: 401, Code: "invalid_api_key"},
			"provided: [secret].",
		},
		"forbidden": {reply(403, j, `{"error":{"message":"no"}}`), lm.Error{Kind: lm.KindAuth, Status: 403}, "no"},
		"context": {
			reply(400, j, `{"error":{"message":"This model's maximum context length is 8192 tokens.","type":"invalid_request_error","code":"context_length_exceeded"}}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400, Code: "context_length_exceeded"},
			"8192",
		},
		"context, llama.cpp": {
			reply(400, j, `{"error":{"code":400,"message":"the request exceeds the available context size","type":"exceed_context_size_error"}}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400, Code: "exceed_context_size_error"},
			"available context",
		},
		"context, vLLM": {
			reply(400, j, `{"object":"error","message":"This model's maximum context length is 2048 tokens.","code":400}`),
			lm.Error{Kind: lm.KindContextLength, Status: 400},
			"2048",
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
			lm.Error{Kind: lm.KindServer, Status: 200, Code: "502", RequestID: "req_1"},
			"overloaded",
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
			lm.Error{Kind: lm.KindRateLimit, Status: 429, Code: "rate_limit_exceeded", RetryAfter: 2 * time.Second},
			"Slow",
		},
		"in the middle": {
			sse(chunk, `{"error":{"message":"oops","type":"server_error","code":500}}`),
			lm.Error{Kind: lm.KindServer, Status: 200, Code: "server_error", RequestID: "req_1"},
			"oops",
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
		for e, err := range serve(t, handler).model(t, nil).Stream(t.Context(), hello()) {
			if err != nil {
				t.Error(err)
			}
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
