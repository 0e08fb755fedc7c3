// Package local is a real language model on this machine that needs no key, and no
// network once it is set up: llama.cpp with SmolLM2-135M, run as one supervised process
// that speaks OpenAI's protocol on loopback.
//
// The model is small. It follows a JSON Schema, because llama.cpp constrains its answers,
// but what it says is often wrong: it is for trying programs out, not for relying on it.
package local

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"runtime"

	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
)

const (
	provider = "local"

	// Name is the model's name in responses.
	Name = "smollm2-135m-instruct"

	// DefaultMaxTokens bounds an answer whose request sets no bound. So small a model
	// may go on for ever; its useful answers are far shorter.
	DefaultMaxTokens = 512

	// DefaultContextSize holds DSPy's prompts with some demonstrations.
	DefaultContextSize = 4096

	// maxContextSize is what the model was trained for.
	maxContextSize = 8192

	// DefaultParallel keeps one long answer from holding up everything. Measured on two
	// processors, the speed of all requests together is the same with 1, 2 and 4, and
	// each takes 90 MB.
	DefaultParallel = 2

	// maxThreads is where a model of this size stops gaining, by llama.cpp's experience.
	maxThreads = 8
)

// Progress is a step of the set-up of Python; see [Config.Progress].
type Progress = pyenv.Progress

// Config describes the model's process. The zero value works.
type Config struct {
	// Interpreter is the Python that the environment is built with: a path, or a name to
	// look up on PATH. Empty means the first suitable python3 on PATH.
	Interpreter string
	// Dir is the folder for Python environments. Empty means "dspex" in the user's cache.
	Dir string
	// Offline forbids the network: a missing environment is then an error.
	Offline bool
	// Progress is told each step of the set-up of Python, in order. It is not called
	// when everything is there already. Nil means that nobody listens.
	Progress func(Progress)
	// Weights is the path of another GGUF file to serve. Empty means SmolLM2-135M.
	Weights string
	// Threads is how many threads compute. Zero means one per processor, at most 8.
	Threads int
	// ContextSize bounds prompt and answer of one request together, in tokens. Zero
	// means 4096; SmolLM2 was trained for up to 8192.
	ContextSize int
	// Parallel is how many requests are answered at once; more wait their turn. Zero
	// means 2.
	Parallel int
	// Lazy makes Open return at once. The model starts in the background, and what
	// fails is reported by the first request.
	Lazy bool
	// Logger gets what the process prints, at debug level. Nil means nowhere.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Threads == 0 {
		c.Threads = min(runtime.GOMAXPROCS(0), maxThreads)
	}
	if c.ContextSize == 0 {
		c.ContextSize = DefaultContextSize
	}
	if c.Parallel == 0 {
		c.Parallel = DefaultParallel
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	switch {
	case c.Threads < 0:
		return c, status.New(status.InvalidArgument, op, "Threads is %d; it has to be at least 1", c.Threads)
	case c.Parallel < 0:
		return c, status.New(status.InvalidArgument, op, "Parallel is %d; it has to be at least 1", c.Parallel)
	case c.ContextSize < 0:
		return c, status.New(status.InvalidArgument, op, "ContextSize is %d; it has to be at least 1", c.ContextSize)
	case c.Weights == "" && c.ContextSize > maxContextSize:
		return c, status.New(status.InvalidArgument, op, "ContextSize is %d; the model was trained for at most %d", c.ContextSize, maxContextSize)
	}
	return c, nil
}

// Model is a running local model. It is safe for concurrent use. When its process dies,
// the requests in it fail with lm.KindTransport and the next request starts it again.
type Model struct {
	config Config
	super  *supervisor
}

// Open starts the model and returns when it has answered a first request, or at once with
// Config.Lazy. A missing Python environment is built first, which takes the network and
// about 200 MB. When ctx ends before the model is ready, the start is stopped and nothing is
// left; later ctx has no meaning.
//
// The Model belongs to the caller, who closes it.
//
// Errors are *dspex.Error: invalid_argument for settings out of range; unavailable, with what
// to do, when Python or the model cannot be set up or started; unsupported on Windows;
// canceled and deadline_exceeded when ctx ends.
func Open(ctx context.Context, config Config) (*Model, error) {
	config, err := config.withDefaults()
	if err != nil {
		return nil, err
	}
	m := &Model{config: config, super: newSupervisor(func(ctx context.Context) (*server, error) {
		return start(ctx, config)
	})}
	if config.Lazy {
		_, err := m.super.begin()
		return m, err
	}
	if _, err := m.super.get(ctx); err != nil {
		_ = m.super.close(context.WithoutCancel(ctx)) // Nothing runs that could fail to end.
		return nil, err
	}
	return m, nil
}

// Close ends the model's process at once and returns when it is gone; requests that are
// under way fail. Further calls do nothing. It fails only when ctx ends first: the process
// was killed nevertheless.
func (m *Model) Close(ctx context.Context) error { return m.super.close(ctx) }

// PID returns the model's process id, for information, or 0 when it does not run.
func (m *Model) PID() int {
	if s := m.super.running(); s != nil {
		return s.process.PID()
	}
	return 0
}

// Capabilities are the same for every name: there is one model.
func (m *Model) Capabilities(string) lm.Capabilities {
	return lm.Capabilities{ResponseSchema: true, JSONObject: true, Streaming: true}
}

// Complete answers the request. Unless it says otherwise, the temperature is 0 and the
// answer has at most DefaultMaxTokens. The name in the request does not matter.
func (m *Model) Complete(ctx context.Context, req *lm.Request) (*lm.Response, error) {
	prepared, err := prepare(req)
	if err != nil {
		return nil, err
	}
	s, err := m.super.get(ctx)
	if err != nil {
		return nil, failure(ctx, err)
	}
	resp, err := s.api.Complete(ctx, prepared)
	if err != nil {
		return nil, s.explain(err)
	}
	return resp, nil
}

// Stream answers the request token by token; see [Model.Complete].
func (m *Model) Stream(ctx context.Context, req *lm.Request) iter.Seq2[lm.Event, error] {
	return func(yield func(lm.Event, error) bool) {
		prepared, err := prepare(req)
		if err != nil {
			yield(lm.Event{}, err)
			return
		}
		s, err := m.super.get(ctx)
		if err != nil {
			yield(lm.Event{}, failure(ctx, err))
			return
		}
		for e, err := range s.api.Stream(ctx, prepared) {
			if err != nil {
				err = s.explain(err)
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// failure turns a failed start into the error of a request.
func failure(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("lm: %s: %w", provider, ctx.Err())
	}
	e := &lm.Error{Kind: lm.KindTransport, Provider: provider, Err: err}
	if s, ok := errors.AsType[*status.Error](err); ok {
		e.Message = s.Message
		if !s.Retryable {
			e.Kind = lm.KindNotConfigured
		}
	}
	return e
}
