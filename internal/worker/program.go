package worker

import (
	"context"
	"encoding/json"
	"errors"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/internal/wire"
)

// Program is what a worker must know before it runs it.
type Program struct {
	// Hash is the content hash of Spec.
	Hash string
	// Spec is the program as JSON.
	Spec json.RawMessage
}

// sending is a program on its way to the worker, or there.
type sending struct {
	over chan struct{} // closed when the worker has answered, or will not
	sent bool          // the worker has it; set before over is closed
}

// send makes sure that the worker has a program: it is sent once, however many calls need
// it. It returns the stream of a failed sending of its own, nil if it opened none.
func (w *Worker) send(ctx context.Context, p Program) (*wire.Stream, error) {
	for {
		w.mu.Lock()
		s := w.programs[p.Hash]
		if s == nil {
			s = &sending{over: make(chan struct{})}
			w.programs[p.Hash] = s
			w.mu.Unlock()
			return w.put(ctx, p, s)
		}
		w.mu.Unlock()
		select {
		case <-s.over:
		default:
			select {
			case <-s.over:
			case <-w.conn.Done():
				return nil, w.conn.Err()
			case <-ctx.Done():
				return nil, status.FromContext(ctx, "run", "the program was still being sent")
			}
		}
		if s.sent {
			return nil, nil
		}
		// Another call failed to send it, perhaps only because its own time was up.
		if ctx.Err() != nil {
			return nil, status.FromContext(ctx, "run", "the program was not sent")
		}
	}
}

// put sends a program and makes the outcome known to those who wait for it.
func (w *Worker) put(ctx context.Context, p Program, s *sending) (stream *wire.Stream, err error) {
	defer func() {
		if err == nil {
			s.sent = true
		} else {
			w.drop(p.Hash, s)
		}
		close(s.over)
	}()
	body, err := json.Marshal(struct {
		Hash string          `json:"hash"`
		Spec json.RawMessage `json:"spec"`
	}{p.Hash, p.Spec})
	if err != nil {
		return nil, status.Wrap(status.InvalidProgram, "run", err, "the program %s is not JSON: %v", p.Hash, err)
	}
	stream, err = w.conn.Start(ctx, "program.put", wire.Message{Body: body})
	if err != nil {
		return nil, err
	}
	reply, err := stream.Result(ctx)
	reply.Release()
	return stream, err
}

// forget makes the next call send a program again.
func (w *Worker) forget(hash string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.programs[hash]; s != nil && s.isOver() {
		delete(w.programs, hash)
	}
}

// drop removes a sending that failed.
func (w *Worker) drop(hash string, s *sending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.programs[hash] == s {
		delete(w.programs, hash)
	}
}

func (s *sending) isOver() bool {
	select {
	case <-s.over:
		return true
	default:
		return false
	}
}

// unknownProgram is the code with which Python answers for a program that it does not have,
// or has forgotten.
const unknownProgram = "unknown_program"

func isUnknownProgram(err error) bool {
	var remote *wire.RemoteError
	return errors.As(err, &remote) && remote.Code() == unknownProgram
}
