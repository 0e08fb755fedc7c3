package local

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/pyenv"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/lm"
	"github.com/dspex/dspex/lm/openai"
)

// op names what this package does in its errors.
const op = "local model"

// startLimit bounds a start, set-up excluded. It takes about a second; a machine that
// swaps may take many, and a hanging one must not keep requests for ever.
const startLimit = time.Minute

// connectionsPerSlot is how many HTTP connections are open for each request that is answered
// at once, so that the next ones wait in the server, not for a connection. The server has a
// thread for each.
const connectionsPerSlot = 4

// server is one run of the model's process.
type server struct {
	process *process.Process
	address string // set once it listens
	api     *openai.Model
}

// options is what the process is told; see dspex_worker/local_server.py.
type options struct {
	Key         string `json:"key"`
	Name        string `json:"name"`
	Threads     int    `json:"threads"`
	Context     int    `json:"context"`
	Parallel    int    `json:"parallel"`
	Connections int    `json:"connections"`
	Weights     string `json:"weights"`
}

// ready is what the process answers.
type ready struct {
	Address     string  `json:"address"`
	Weights     string  `json:"weights"`
	LoadSeconds float64 `json:"load_seconds"`
	Error       string  `json:"error"`
}

// refusal is what the process says before it ends by itself.
type refusal string

func (r refusal) Error() string { return string(r) }

// start sets up Python, executes the process and returns when it has answered a request.
func start(ctx context.Context, config Config) (*server, error) {
	env, err := pyenv.Ensure(ctx, pyenv.Options{
		Interpreter: config.Interpreter, Dir: config.Dir, Extra: pyenv.Local,
		Offline: config.Offline, Progress: config.Progress,
	})
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startLimit, fmt.Errorf("it was not ready within %v", startLimit))
	defer cancel()
	begin := time.Now()
	proc, err := execute(ctx, config, env)
	if err != nil {
		return nil, err
	}
	s := &server{process: proc}
	told, err := s.handshake(ctx, config)
	if err == nil {
		err = s.try(ctx)
	}
	if err != nil {
		err = s.startError(ctx, err)
		s.stop()
		return nil, err
	}
	config.Logger.DebugContext(ctx, "the local model is ready", "pid", proc.PID(), "weights", told.Weights,
		"load", time.Duration(told.LoadSeconds*float64(time.Second)), "took", time.Since(begin))
	return s, nil
}

// execute runs the process. Its threads sleep while they wait for each other: measured on
// two processors, spinning gives twice the speed on an idle machine, and a twentieth of it
// beside one busy neighbour.
func execute(ctx context.Context, config Config, env *pyenv.Env) (*process.Process, error) {
	python := process.Python{
		Path: env.Python, Source: env.Source,
		Env: []string{fmt.Sprintf("OMP_NUM_THREADS=%d", config.Threads), "OMP_WAIT_POLICY=passive"},
	}
	command, err := python.Module("dspex_worker.local_server")
	if err != nil {
		return nil, err
	}
	command.ID = "local model"
	command.Socket = true
	command.OnLine = func(stream string, line []byte) {
		config.Logger.Debug("local model: "+string(line), "stream", stream)
	}
	return process.Exec(ctx, command)
}

// handshake tells the process what to do and connects to where it then listens. The socket
// stays open: the process ends with it, also where there is no lifeline.
func (s *server) handshake(ctx context.Context, config Config) (*ready, error) {
	conn := s.process.Conn()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	connections := config.Parallel * connectionsPerSlot
	key := rand.Text()
	line, err := json.Marshal(options{
		Key: key, Name: Name, Threads: config.Threads, Context: config.ContextSize, Parallel: config.Parallel,
		Connections: connections, Weights: config.Weights,
	})
	if err != nil {
		return nil, err
	}
	if _, err := conn.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	answer, err := bufio.NewReader(conn).ReadBytes('\n')
	if err != nil {
		return nil, err
	}
	var told ready
	if err := json.Unmarshal(answer, &told); err != nil {
		return nil, fmt.Errorf("it answered %q", answer)
	}
	if told.Error != "" {
		return nil, refusal(told.Error)
	}
	s.address = told.Address
	s.api, err = openai.New(openai.Config{
		Name: provider, Model: Name, BaseURL: told.Address + "/v1", APIKey: key, Timeout: -1,
		Client: client(connections),
	})
	return &told, err
}

// try asks for one token: only an answer proves that the model works.
func (s *server) try(ctx context.Context) error {
	_, err := s.api.Complete(ctx, &lm.Request{
		Model: Name, Messages: []lm.Message{lm.User(lm.Text("Hi"))}, Config: lm.Config{MaxTokens: new(1)},
	})
	return err
}

// startError explains why a start failed.
func (s *server) startError(ctx context.Context, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return status.FromContext(ctx, op, "the start of the model was stopped")
	case ctx.Err() != nil:
		return s.failed(context.Cause(ctx).Error())
	}
	if said, ok := errors.AsType[refusal](err); ok {
		return s.failed(said.Error())
	}
	if s.ended() {
		return s.process.Failure(op, "process of the local model")
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return s.failed("its process does not answer")
	}
	return s.failed(err.Error())
}

func (s *server) failed(why string) *status.Error {
	e := status.New(status.Unavailable, op, "the local model cannot start: %s", why)
	if tail := s.process.Tail(); len(tail) > 0 {
		e.Message += "; its process printed last: " + strings.TrimSpace(tail[len(tail)-1])
	}
	return e
}

func (s *server) alive() bool {
	select {
	case <-s.process.Done():
		return false
	default:
		return true
	}
}

// ended reports whether the process has ended, or is about to: a connection breaks a moment
// before the end of the process is known.
func (s *server) ended() bool {
	const moment = 250 * time.Millisecond // Reading its last output takes a few milliseconds.
	timer := time.NewTimer(moment)
	defer timer.Stop()
	select {
	case <-s.process.Done():
		return true
	case <-timer.C:
		return false
	}
}

// explain adds to a broken connection what became of the process.
func (s *server) explain(err error) error {
	e, ok := errors.AsType[*lm.Error](err)
	if !ok || e.Kind != lm.KindTransport || !s.ended() {
		return err
	}
	explained := *e
	if s.process.Exit().Killed {
		explained.Message = "the model was closed during the request"
	} else {
		explained.Message = s.process.Failure(op, "process of the local model").Message + "; the next request starts it again"
	}
	return &explained
}

// stop ends the process and returns when it is gone.
func (s *server) stop() {
	s.process.Kill()
	<-s.process.Done()
	if conn := s.process.Conn(); conn != nil {
		_ = conn.Close()
	}
	if s.api != nil {
		s.api.CloseIdleConnections()
	}
}
