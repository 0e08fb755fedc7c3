package openai

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/packages/ssestream"

	"github.com/dspex/dspex/lm"
)

// maxQuoted bounds how much of a body is read and quoted in an error, in bytes. OpenAI's
// messages are far shorter; a proxy's HTML page is not worth more.
const maxQuoted = 4096

// failure turns what the SDK returned into the error of the call. The SDK's own errors
// are not kept: they hold the request, and with it the key.
func (m *Model) failure(caller, call context.Context, resp *http.Response, err error) error {
	if caller.Err() != nil {
		return m.ended(caller)
	}
	if call.Err() != nil {
		e := lm.Errorf(lm.KindTimeout, m.name, "no answer within %v", m.timeout)
		e.RequestID = requestID(resp)
		return e
	}
	if streamed, ok := errors.AsType[*ssestream.StreamError](err); ok {
		return m.httpError(resp, streamed.Event.Data)
	}
	if resp != nil && resp.StatusCode >= http.StatusBadRequest {
		// The SDK has put the body back, also when it could not read it as JSON.
		body, _ := io.ReadAll(io.LimitReader(resp.Body, maxQuoted))
		return m.httpError(resp, body)
	}
	if network, ok := errors.AsType[*url.Error](err); ok {
		return m.network(network.Err)
	}
	if unreadable(err) {
		return m.provider(resp, fmt.Sprintf("the answer cannot be read as a completion (content type %q)", contentType(resp)))
	}
	if broken(err) {
		return m.network(err)
	}
	return &lm.Error{Kind: lm.KindUnexpected, Provider: m.name, Message: m.clean(err.Error()), RequestID: requestID(resp)}
}

func (m *Model) ended(ctx context.Context) error { return fmt.Errorf("lm: %s: %w", m.name, ctx.Err()) }

// unreadable reports whether the body arrived, but is no completion.
func unreadable(err error) bool {
	if _, ok := errors.AsType[*json.SyntaxError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		return true
	}
	text := err.Error()
	return strings.HasPrefix(text, "error parsing response json") || strings.HasPrefix(text, "expected destination type")
}

// broken reports whether the connection ended in the middle of the body.
func broken(err error) bool {
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF) ||
		strings.HasPrefix(err.Error(), "error reading response body")
}

func (m *Model) network(err error) *lm.Error {
	e := &lm.Error{Kind: lm.KindTransport, Provider: m.name, Err: err}
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		e.Kind = lm.KindTimeout
	}
	e.Message = m.clean(fmt.Sprintf("cannot reach %s: %v", withoutSecrets(m.config.BaseURL), err))
	if m.config.BaseURL == "" {
		e.Message = m.clean(fmt.Sprintf("cannot reach %s: %v", DefaultBaseURL, err))
	}
	return e
}

func (m *Model) provider(resp *http.Response, message string) *lm.Error {
	e := &lm.Error{Kind: lm.KindProvider, Provider: m.name, Message: m.clean(message), RequestID: requestID(resp)}
	if resp != nil {
		e.Status = resp.StatusCode
	}
	return e
}

// withoutChoices explains a completion that holds no answer. Some routers answer 200
// with an error inside.
func (m *Model) withoutChoices(c *sdk.ChatCompletion, resp *http.Response) error {
	if c != nil {
		raw := []byte(c.RawJSON())
		if body := readBody(raw); body.isError {
			return m.httpError(resp, raw)
		}
	}
	return m.provider(resp, "the answer holds no choices")
}

// errorBody is what the servers' different error bodies have in common.
type errorBody struct {
	message, code, kind string
	status              int // a number given as the code
	isError             bool
	isJSON              bool
}

func readBody(data []byte) errorBody {
	var top struct {
		Error   json.RawMessage `json:"error"`
		Message string          `json:"message"`
		Detail  json.RawMessage `json:"detail"`
	}
	if json.Unmarshal(data, &top) != nil {
		return errorBody{}
	}
	b := errorBody{isJSON: true, message: top.Message}
	if len(top.Error) == 0 || string(top.Error) == "null" {
		if b.message == "" && len(top.Detail) > 0 && json.Unmarshal(top.Detail, &b.message) != nil {
			b.message = string(top.Detail)
		}
		return b
	}
	b.isError = true
	if json.Unmarshal(top.Error, &b.message) == nil {
		return b
	}
	var inner struct {
		Message string          `json:"message"`
		Type    string          `json:"type"`
		Code    json.RawMessage `json:"code"`
	}
	if json.Unmarshal(top.Error, &inner) != nil {
		b.message = string(top.Error)
		return b
	}
	b.message, b.kind = inner.Message, inner.Type
	if json.Unmarshal(inner.Code, &b.code) != nil && json.Unmarshal(inner.Code, &b.status) == nil && b.status != 0 {
		b.code = strconv.Itoa(b.status)
	}
	return b
}

// httpError turns an error answer, or an error inside a stream, into an Error.
func (m *Model) httpError(resp *http.Response, data []byte) *lm.Error {
	body := readBody(data)
	e := &lm.Error{Provider: m.name, Message: body.message, Code: body.code, RequestID: requestID(resp)}
	if e.Code == "" || body.status != 0 && body.kind != "" {
		e.Code = body.kind
	}
	status := body.status
	if resp != nil {
		e.Status = resp.StatusCode
		e.RetryAfter = retryAfter(resp.Header)
		if resp.StatusCode >= http.StatusBadRequest {
			status = resp.StatusCode
		}
	}
	e.Kind = kind(status, body)
	if e.Message == "" {
		e.Message = quote(data, resp)
	}
	if status == http.StatusNotFound && !body.isJSON {
		e.Message = fmt.Sprintf("there is no chat endpoint under %s; check the base URL: %s", withoutSecrets(m.config.BaseURL), e.Message)
	}
	e.Message = m.clean(e.Message)
	return e
}

// kind classifies by the provider's code first, because a status is shared by several.
func kind(status int, b errorBody) lm.Kind {
	switch b.code {
	case "context_length_exceeded", "string_above_max_length":
		return lm.KindContextLength
	case "insufficient_quota", "billing_hard_limit_reached", "billing_not_active":
		return lm.KindBilling
	case "model_not_found", "model_not_available", "deployment_not_found":
		return lm.KindUnsupportedModel
	case "rate_limit_exceeded":
		return lm.KindRateLimit
	case "invalid_api_key":
		return lm.KindAuth
	}
	message := strings.ToLower(b.message)
	switch {
	case b.kind == "exceed_context_size_error", // llama.cpp
		strings.Contains(message, "maximum context length"),
		strings.Contains(message, "context length exceeded"),
		strings.Contains(message, "exceeds the available context size"):
		return lm.KindContextLength
	case b.kind == "insufficient_quota":
		return lm.KindBilling
	}
	switch {
	case status == http.StatusUnauthorized, status == http.StatusForbidden:
		return lm.KindAuth
	case status == http.StatusPaymentRequired:
		return lm.KindBilling
	case status == http.StatusTooManyRequests:
		return lm.KindRateLimit
	case status == http.StatusRequestTimeout, status == http.StatusGatewayTimeout:
		return lm.KindTimeout
	case status == http.StatusNotFound && strings.Contains(message, "model"):
		return lm.KindUnsupportedModel
	case status >= http.StatusInternalServerError:
		return lm.KindServer
	case status >= http.StatusBadRequest:
		return lm.KindInvalidRequest
	case b.kind == "server_error", b.kind == "overloaded_error":
		return lm.KindServer
	case b.kind == "rate_limit_error", b.kind == "tokens", b.kind == "requests":
		return lm.KindRateLimit
	case b.kind == "invalid_request_error":
		return lm.KindInvalidRequest
	default:
		return lm.KindProvider
	}
}

// quote returns the beginning of a body that holds no message.
func quote(data []byte, resp *http.Response) string {
	text := strings.Join(strings.Fields(string(bytes.ToValidUTF8(data, nil))), " ")
	if strings.HasPrefix(strings.ToLower(contentType(resp)), "text/html") || strings.HasPrefix(text, "<") {
		text = "an HTML page, perhaps of a proxy" + title(text)
	}
	const enough = 200
	if len(text) > enough {
		text = strings.ToValidUTF8(text[:enough], "") + "…"
	}
	if text == "" {
		text = "no explanation was given"
	}
	return text
}

func title(html string) string {
	_, rest, ok := strings.Cut(html, "<title>")
	if !ok {
		return ""
	}
	t, _, _ := strings.Cut(rest, "</title>")
	return ": " + strings.TrimSpace(t)
}

// clean removes secrets that the provider may have echoed.
func (m *Model) clean(message string) string {
	for _, secret := range m.secretsToCut {
		message = strings.ReplaceAll(message, secret, "[secret]")
	}
	return message
}

func contentType(resp *http.Response) string {
	if resp == nil {
		return ""
	}
	return resp.Header.Get("Content-Type")
}

func requestID(resp *http.Response) string {
	if resp == nil {
		return ""
	}
	for _, name := range []string{"X-Request-Id", "Request-Id", "Apim-Request-Id"} {
		if id := resp.Header.Get(name); id != "" {
			return id
		}
	}
	return ""
}

// retryAfter reads how long to wait: in milliseconds, in seconds, or until a date.
func retryAfter(h http.Header) time.Duration {
	if ms, err := strconv.ParseFloat(h.Get("Retry-After-Ms"), 64); err == nil {
		return seconds(ms / 1000)
	}
	value := h.Get("Retry-After")
	if s, err := strconv.ParseFloat(value, 64); err == nil {
		return seconds(s)
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(0, time.Until(t))
	}
	return 0
}

func seconds(s float64) time.Duration {
	// Longer waits than a year are nonsense and would overflow.
	const year = 365 * 24 * 60 * 60
	if math.IsNaN(s) || s <= 0 {
		return 0
	}
	return time.Duration(min(s, year) * float64(time.Second))
}
