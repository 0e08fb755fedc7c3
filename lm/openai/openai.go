// Package openai reaches every server that speaks OpenAI's Chat Completions: OpenAI
// itself, vLLM, Ollama, llama.cpp, Groq, Together, OpenRouter and others, by base URL.
//
// A [Model] makes exactly one HTTP request per call: retries are the caller's. What the
// protocol cannot carry is refused with lm.KindUnsupportedFeature before anything is
// sent; what may go without changing the meaning is recorded in Response.Adaptations.
package openai

import (
	"context"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	sdk "github.com/openai/openai-go/v3"
	"github.com/openai/openai-go/v3/option"

	"github.com/dspex/dspex/lm"
)

const (
	// DefaultBaseURL is OpenAI's own.
	DefaultBaseURL = "https://api.openai.com/v1"
	// DefaultTimeout is that of OpenAI's own SDKs: a long answer of a reasoning
	// model takes minutes.
	DefaultTimeout = 10 * time.Minute

	keyVariable = "OPENAI_API_KEY"
)

// Config describes an endpoint and a model. Printing it does not show the key.
type Config struct {
	// Model names the model to the provider. Empty means the name in each request.
	Model string
	// BaseURL is where the endpoint is, up to and without "/chat/completions". Empty
	// means DefaultBaseURL.
	BaseURL string
	// APIKey is sent as a bearer token. OpenAI wants one; for other endpoints empty
	// means that none is sent.
	APIKey string
	// Organization and Project are OpenAI's; empty means those of the key.
	Organization string
	Project      string
	// Name is the provider's name in errors. Empty means "openai".
	Name string
	// Dialect says how the endpoint differs from OpenAI. Nil means OpenAI() for
	// OpenAI's base URL and Compatible() for every other.
	Dialect *Dialect
	// Capabilities says what the model can do. Nil means what is known of the model
	// by its name on OpenAI, and little elsewhere; see [Model.Capabilities].
	Capabilities *lm.Capabilities
	// Header is added to each request.
	Header http.Header
	// Timeout bounds each call, a stream as a whole. Zero means DefaultTimeout, a
	// negative value no bound but that of the context.
	Timeout time.Duration
	// Proxy chooses the HTTP proxy, as in http.Transport. Nil means none.
	Proxy func(*http.Request) (*url.URL, error)
	// Client makes the requests. Nil means one of the Model's own.
	Client *http.Client
}

// FromEnv returns config with what it leaves empty taken from the environment:
// OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID, OPENAI_PROJECT_ID, and the proxy from
// HTTPS_PROXY, HTTP_PROXY and NO_PROXY. Nothing else in this package reads it.
func FromEnv(config Config) Config {
	for name, field := range map[string]*string{
		keyVariable: &config.APIKey, "OPENAI_BASE_URL": &config.BaseURL,
		"OPENAI_ORG_ID": &config.Organization, "OPENAI_PROJECT_ID": &config.Project,
	} {
		if *field == "" {
			*field = os.Getenv(name)
		}
	}
	if config.Proxy == nil {
		config.Proxy = http.ProxyFromEnvironment
	}
	return config
}

// Format prints the config for every verb without the key and the headers, which may
// hold one.
func (c Config) Format(f fmt.State, _ rune) {
	key := ""
	if c.APIKey != "" {
		key = "[secret]"
	}
	_, _ = fmt.Fprintf(f, "openai.Config{Model:%q, BaseURL:%q, APIKey:%s}", c.Model, withoutSecrets(c.BaseURL), key)
}

// Model is an [lm.Model] that asks one endpoint. It is safe for concurrent use.
type Model struct {
	config       Config
	name         string
	dialect      Dialect
	isOpenAI     bool
	timeout      time.Duration
	client       *http.Client
	completions  sdk.ChatCompletionService
	secretsToCut []string
}

// New returns a Model. It sends nothing. A missing key and a base URL that cannot be
// used are an *lm.Error of lm.KindNotConfigured.
func New(config Config) (*Model, error) {
	m := &Model{config: config, name: config.Name, timeout: config.Timeout, client: config.Client}
	if m.name == "" {
		m.name = "openai"
	}
	base, err := m.baseURL()
	if err != nil {
		return nil, err
	}
	m.isOpenAI = strings.EqualFold(base.Hostname(), "api.openai.com")
	if m.isOpenAI && config.APIKey == "" {
		return nil, lm.Errorf(lm.KindNotConfigured, m.name, "no API key: set %s, or Config.APIKey", keyVariable)
	}
	switch {
	case config.Dialect != nil:
		m.dialect = *config.Dialect
	case m.isOpenAI:
		m.dialect = OpenAI()
	default:
		m.dialect = Compatible()
	}
	if m.timeout == 0 {
		m.timeout = DefaultTimeout
	}
	if m.client == nil {
		m.client = &http.Client{Transport: transport(config.Proxy)}
	}
	if config.APIKey != "" {
		m.secretsToCut = append(m.secretsToCut, config.APIKey)
	}
	if password, ok := base.User.Password(); ok {
		m.secretsToCut = append(m.secretsToCut, password)
	}
	// The SDK's client would read the environment; the service alone does not.
	m.completions = sdk.NewChatCompletionService(m.options(base)...)
	return m, nil
}

func (m *Model) baseURL() (*url.URL, error) {
	raw := m.config.BaseURL
	if raw == "" {
		raw = DefaultBaseURL
	}
	base, err := url.Parse(raw)
	switch {
	case err != nil:
		return nil, lm.Errorf(lm.KindNotConfigured, m.name, "the base URL cannot be read; it looks like %s", DefaultBaseURL)
	case base.Scheme != "http" && base.Scheme != "https", base.Host == "":
		return nil, lm.Errorf(lm.KindNotConfigured, m.name,
			"the base URL %q has no http:// or https:// in front of a host", withoutSecrets(raw))
	}
	return base, nil
}

func (m *Model) options(base *url.URL) []option.RequestOption {
	options := []option.RequestOption{
		option.WithBaseURL(base.String()), option.WithHTTPClient(m.client), option.WithMaxRetries(0),
	}
	if m.config.APIKey != "" {
		options = append(options, option.WithAPIKey(m.config.APIKey))
	}
	if m.config.Organization != "" {
		options = append(options, option.WithOrganization(m.config.Organization))
	}
	if m.config.Project != "" {
		options = append(options, option.WithProject(m.config.Project))
	}
	for name, values := range m.config.Header {
		options = append(options, option.WithHeaderDel(name))
		for _, value := range values {
			options = append(options, option.WithHeaderAdd(name, value))
		}
	}
	return options
}

// transport keeps connections to one host open: a gateway has few hosts and many calls.
func transport(proxy func(*http.Request) (*url.URL, error)) *http.Transport {
	t := &http.Transport{
		Proxy: proxy, ForceAttemptHTTP2: true, TLSHandshakeTimeout: 10 * time.Second,
		MaxIdleConnsPerHost: 1000, IdleConnTimeout: 90 * time.Second,
	}
	return t
}

// CloseIdleConnections closes the connections that no call uses. The Model stays
// usable.
func (m *Model) CloseIdleConnections() { m.client.CloseIdleConnections() }

// Complete asks for a whole answer with one HTTP request.
func (m *Model) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	params, adaptations, err := m.params(req, false)
	if err != nil {
		return nil, err
	}
	callCtx, cancel := m.bound(ctx)
	defer cancel()
	var answer *http.Response
	completion, err := m.completions.New(callCtx, params, option.WithResponseInto(&answer))
	if err != nil {
		return nil, m.failure(ctx, callCtx, answer, err)
	}
	return m.response(params.Model, completion, answer, adaptations)
}

// Stream asks for a streamed answer with one HTTP request.
func (m *Model) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		params, adaptations, err := m.params(req, true)
		if err != nil {
			yield(lm.Event{}, err)
			return
		}
		callCtx, cancel := m.bound(ctx)
		defer cancel()
		var answer *http.Response
		stream := m.completions.NewStreaming(callCtx, params, option.WithResponseInto(&answer))
		defer stream.Close() //nolint:errcheck // what it had to say was read from it
		if err := stream.Err(); err != nil {
			yield(lm.Event{}, m.failure(ctx, callCtx, answer, err))
			return
		}
		if err := m.checkStreamType(answer); err != nil {
			yield(lm.Event{}, err)
			return
		}
		s := streaming{model: params.Model, adaptations: adaptations, yield: yield}
		for stream.Next() {
			chunk := stream.Current()
			if !s.chunk(&chunk) {
				return
			}
		}
		if err := stream.Err(); err != nil && !s.finished {
			yield(lm.Event{}, m.failure(ctx, callCtx, answer, err))
			return
		}
		if ctx.Err() != nil {
			yield(lm.Event{}, m.ended(ctx))
			return
		}
		if err := s.end(); err != nil {
			err.Provider, err.RequestID = m.name, requestID(answer)
			yield(lm.Event{}, err)
		}
	}
}

// bound returns the context of one call.
func (m *Model) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	if m.timeout < 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, m.timeout)
}

func (m *Model) checkStreamType(resp *http.Response) error {
	kind := resp.Header.Get("Content-Type")
	if strings.HasPrefix(strings.ToLower(kind), "text/event-stream") {
		return nil
	}
	body, _ := io.ReadAll(io.LimitReader(resp.Body, maxQuoted))
	e := m.httpError(resp, body)
	e.Kind = lm.KindProvider
	e.Message = fmt.Sprintf("the answer to a streaming request is %q, not an event stream: %s", kind, e.Message)
	return e
}

// withoutSecrets returns a URL without password and query, for messages.
func withoutSecrets(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return "(unreadable)"
	}
	u.RawQuery, u.Fragment = "", ""
	if u.User != nil {
		u.User = nil
	}
	return u.String()
}
