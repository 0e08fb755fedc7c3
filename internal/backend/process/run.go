package process

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/lifecycle"
	"github.com/dspex/dspex/internal/pool"
	osprocess "github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/internal/worker"
)

// startWorker makes one worker for the pool.
func (b *Backend) startWorker(ctx context.Context, info pool.StartInfo) (*worker.Worker, error) {
	server, err := b.source.server(ctx)
	if err != nil {
		return nil, err
	}
	logger := b.options.Logger.With(slog.String("worker", info.ID))
	options := map[string]any{}
	if b.options.MemoryLimit > 0 {
		options["memory_limit"] = b.options.MemoryLimit
	}
	w, err := worker.Start(ctx, worker.Options{
		ID: info.ID,
		Process: func(ctx context.Context) (worker.Process, error) {
			return server.Worker(ctx, osprocess.WorkerOptions{
				ID:      info.ID,
				Options: options,
				OnLine:  printed(logger),
			})
		},
		Hello:        wire.Hello{Version: b.options.Version},
		Logger:       b.options.Logger,
		StartTimeout: b.options.StartTimeout,
		CancelGrace:  b.options.CancelGrace,
		// The three add up to less than StuckAfter for a worker in any state, and leave
		// time to ask once more and to fetch the stacks.
		PingBusy:   b.options.StuckAfter / 6,
		PingIdle:   b.options.StuckAfter / 4,
		StuckAfter: b.options.StuckAfter / 2,
	})
	if err != nil {
		return nil, err
	}
	b.roster.add(info.ID, w.PID())
	return w, nil
}

// printed turns what a worker prints into log lines.
func printed(logger *slog.Logger) func(stream string, line []byte) {
	return func(stream string, line []byte) {
		logger.LogAttrs(context.Background(), slog.LevelDebug, "printed",
			slog.String("stream", stream), slog.String("line", string(line)))
	}
}

// job is one call to whichever worker is free.
type job struct {
	method      string
	program     backend.Program
	body        func() ([]byte, error)
	attachments [][]byte
	handler     wire.Handler
	resolve     func(ref uint64) error
	place       place
}

// outcome is the answer to a job.
type outcome struct {
	message wire.Message
	worker  backend.Worker
	queue   time.Duration
}

// do leases a slot and makes a call. A worker that dies before it has seen the call costs
// nothing: the call goes to another.
func (b *Backend) do(ctx context.Context, j job) (*outcome, error) {
	var (
		queue time.Duration
		tried []string
	)
	for {
		lease, err := b.pool.Acquire(ctx, j.place.options(tried))
		if err != nil {
			return nil, j.place.unleased(err)
		}
		queue += lease.Queued()
		body, err := j.body()
		if err != nil {
			lease.Release()
			return nil, err
		}
		message := wire.Message{Body: body}
		for _, data := range j.attachments {
			message.Attachments = append(message.Attachments, wire.Bytes(data))
		}
		w := lease.Worker()
		j.place.tell(backend.Worker{ID: w.ID(), PID: w.PID()})
		reply, err := w.Run(ctx, worker.Call{
			Method:  j.method,
			Program: worker.Program{Hash: j.program.Hash, Spec: j.program.Spec},
			Message: message,
			Handler: j.handler,
			Resolve: j.resolve,
			Settled: lease.Release,
		})
		if err == nil {
			return &outcome{message: reply, worker: backend.Worker{ID: w.ID(), PID: w.PID()}, queue: queue}, nil
		}
		if !unseen(err) || ctx.Err() != nil || b.life.State() != lifecycle.Running {
			return nil, err
		}
		if j.place.pin {
			return nil, unseenByPinned(err, w.ID())
		}
		tried = append(tried, w.ID())
	}
}

// unseen reports whether a call failed because its worker was going, before it saw the call.
func unseen(err error) bool {
	code := status.CodeOf(err)
	return errors.Is(err, wire.ErrNotSent) && (code == status.WorkerLost || code == status.Unavailable)
}

// Run executes one call. When its worker dies, it is run once more on another one,
// answered from its journal, unless it is pinned to the one that died.
func (b *Backend) Run(ctx context.Context, call *backend.Call) (*backend.Reply, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var sent refs
	j := &journal{ctx: ctx, group: b.answers, call: call.ID, logger: b.options.Logger}
	for reruns := 0; ; reruns++ {
		out, err := b.do(ctx, job{
			method:      "program.run",
			program:     call.Program,
			body:        func() ([]byte, error) { return runBody(call, remaining(ctx)) },
			attachments: call.Attachments,
			handler:     serve(call, &sent, attempt{j, reruns}),
			resolve:     sent.find,
			place:       place{prefer: call.Prefer, pin: call.Pin, chosen: call.Chosen},
		})
		if err == nil {
			return newReply(out, reruns)
		}
		if status.CodeOf(err) != status.WorkerLost || ctx.Err() != nil || call.Pin || !j.rewind() {
			return nil, twice(original(err), reruns)
		}
		b.options.Logger.InfoContext(ctx, "a call is run again because its worker died",
			"call", call.ID, "error", err)
	}
}

// twice says of the error of a call that was on two workers that it is not tried on a third.
func twice(err error, reruns int) error {
	e, ok := errors.AsType[*status.Error](err)
	if !ok || reruns == 0 || e.Code != status.WorkerLost || e.Remote {
		return err
	}
	whole := *e
	whole.Message = "the call was on two workers that died, and is not tried on a third: " + e.Message
	return &whole
}

func newReply(out *outcome, reruns int) (*backend.Reply, error) {
	defer out.message.Release()
	reply := &backend.Reply{Worker: out.worker, Queue: out.queue, Reruns: reruns}
	var body struct {
		Outputs json.RawMessage `json:"outputs"`
	}
	if err := json.Unmarshal(out.message.Body, &body); err != nil {
		return nil, status.Wrap(status.Internal, "run", err, "the worker's answer cannot be read: %v", err)
	}
	reply.Outputs = body.Outputs
	for _, a := range out.message.Attachments {
		data, err := read(a)
		if err != nil {
			return nil, status.Wrap(status.Internal, "run", err, "an attachment cannot be read: %v", err)
		}
		reply.Attachments = append(reply.Attachments, data)
	}
	return reply, nil
}

// original returns the error that Go gave to Python when that is what ended the call, so
// that a budget, for example, is told in its own words; a model's error stays wrapped in
// what DSPy made of it.
func original(err error) error {
	var remote *status.Error
	if !errors.As(err, &remote) || !remote.Remote || remote.Err == nil {
		return err
	}
	var own *status.Error
	if !errors.As(remote.Err, &own) {
		return err
	}
	whole := *own
	whole.Worker, whole.Remote = remote.Worker, true
	return &whole
}

// remaining is how long ctx lasts; 0 when it has no deadline.
func remaining(ctx context.Context) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return max(time.Until(deadline), time.Millisecond)
	}
	return 0
}

func read(a wire.Attachment) (_ []byte, err error) {
	r, err := a.Open()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	data := make([]byte, a.Size())
	_, err = io.ReadFull(r, data)
	return data, err
}

// Debug asks some worker to misbehave; it needs Options.Debug.
func (b *Backend) Debug(ctx context.Context, op map[string]any) (json.RawMessage, error) {
	return b.direct(ctx, "worker.debug", op)
}

// Info asks some worker about itself: memory, descriptors, threads, calls.
func (b *Backend) Info(ctx context.Context) (json.RawMessage, error) {
	return b.direct(ctx, "worker.info", map[string]any{})
}

func (b *Backend) direct(ctx context.Context, method string, body map[string]any) (json.RawMessage, error) {
	out, err := b.do(ctx, job{method: method, body: func() ([]byte, error) { return json.Marshal(body) }})
	if err != nil {
		return nil, err
	}
	defer out.message.Release()
	return out.message.Body, nil
}
