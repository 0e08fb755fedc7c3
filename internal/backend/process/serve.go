package process

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"runtime/debug"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
	"github.com/dspex/dspex/lm"
)

// lmCall is the body of lm.complete and lm.stream.
type lmCall struct {
	Request   *lm.Request `json:"request"`
	Model     string      `json:"model"`
	Rollout   *int64      `json:"rollout_id"`
	Candidate int         `json:"candidate"`
	Predictor string      `json:"predictor"`
}

// serve returns the handler of what a worker asks for in one run of a call.
func serve(call *backend.Call, refs *refs, run attempt) wire.Handler {
	return func(ctx context.Context, in *wire.Inbound) (wire.Message, error) {
		switch in.Method {
		case "lm.complete":
			body, err := run.ask(ctx, in.Method, in.Body, func(ctx context.Context) ([]byte, error) {
				return complete(ctx, call, refs, in.Body, run.j.logger)
			})
			return wire.Message{Body: body}, err
		case "lm.stream":
			run.pass()
			return stream(ctx, call, refs, in)
		default:
			return wire.Message{}, refs.send(ctx, status.New(status.Unsupported, "run", "the host has no method %q", in.Method))
		}
	}
}

func request(call *backend.Call, data []byte) (*lm.Request, error) {
	var body lmCall
	if err := json.Unmarshal(data, &body); err != nil {
		return nil, status.Wrap(status.Internal, "run", err, "a worker sent a request that cannot be read: %v", err)
	}
	if call.LM == nil || body.Request == nil {
		return nil, status.New(status.InvalidArgument, "run", "the program needs a language model; set Config.LM")
	}
	body.Request.Route = body.Model
	body.Request.RolloutID = body.Rollout
	body.Request.Candidate = body.Candidate
	body.Request.Predictor = body.Predictor
	return body.Request, nil
}

// complete asks the model. A panic of the model's is the error of this call alone.
func complete(ctx context.Context, call *backend.Call, refs *refs, data []byte, logger *slog.Logger) (body []byte, err error) {
	defer func() {
		if value := recover(); value != nil {
			logger.ErrorContext(ctx, "a language model panicked",
				"call", call.ID, "value", value, "stack", string(debug.Stack()))
			body, err = nil, refs.send(ctx, status.New(status.Internal, "run", "the language model panicked: %v", value))
		}
	}()
	req, err := request(call, data)
	if err != nil {
		return nil, refs.send(ctx, err)
	}
	res, err := call.LM.Model.Complete(ctx, req)
	if err == nil {
		err = usable(res)
	}
	if err != nil {
		return nil, refs.send(ctx, err)
	}
	body, err = json.Marshal(struct {
		Response *lm.Response `json:"response"`
	}{res})
	if err != nil {
		return nil, refs.send(ctx, bad("cannot be encoded: %v", err))
	}
	if len(body) > wire.DefaultMaxFrame {
		return nil, refs.send(ctx, bad("has %d bytes, the limit is %d", len(body), wire.DefaultMaxFrame))
	}
	return body, nil
}

// usable returns why a response is none.
func usable(res *lm.Response) error {
	switch {
	case res == nil:
		return bad("is missing, and there is no error either")
	case res.Model == "":
		return bad("does not name the model")
	case len(res.Message.Parts) == 0:
		return bad("is empty")
	default:
		return nil
	}
}

// bad makes the error of a model that keeps to no rule of its interface.
func bad(format string, args ...any) error {
	return &lm.Error{Kind: lm.KindProvider, Message: "the model's response " + fmt.Sprintf(format, args...)}
}

func stream(ctx context.Context, call *backend.Call, refs *refs, in *wire.Inbound) (wire.Message, error) {
	req, err := request(call, in.Body)
	if err != nil {
		return wire.Message{}, refs.send(ctx, err)
	}
	for event, err := range call.LM.Model.Stream(ctx, req) {
		if err != nil {
			return wire.Message{}, refs.send(ctx, err)
		}
		item, err := json.Marshal(event)
		if err != nil {
			return wire.Message{}, refs.send(ctx, status.Wrap(status.Internal, "run", err,
				"the model's event cannot be encoded: %v", err))
		}
		if err := in.Chunk(ctx, item); err != nil {
			return wire.Message{}, refs.send(ctx, err)
		}
	}
	return wire.Message{Body: []byte("{}")}, nil
}
