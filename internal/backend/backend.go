// Package backend is the seam between the public API and whatever executes programs.
package backend

import (
	"context"
	"encoding/json"
	"errors"
	"time"

	"github.com/dspex/dspex/lm"
)

// Backend executes programs. Its methods are safe for concurrent use.
//
// The life of a Backend is Start, any number of calls, Stop. Stop is legal in every
// state and more than once; after it every method returns an error with code closed.
type Backend interface {
	// Name is the setting that selects this backend, such as "process".
	Name() string
	// Start returns when the backend can take calls, or why it cannot.
	Start(ctx context.Context) error
	// Run executes one call. The reply is non-nil if and only if the error is nil;
	// errors are *status.Error. It returns as soon as ctx ends.
	Run(ctx context.Context, call *Call) (*Reply, error)
	// Check builds a program without running it.
	Check(ctx context.Context, program Program) error
	// Ready waits until a call would be taken at once.
	Ready(ctx context.Context) error
	// Idle waits until no call is running or queued.
	Idle(ctx context.Context) error
	// Reset replaces every worker, one generation by the next, without failing a call.
	Reset(ctx context.Context) error
	// Stats returns a consistent snapshot.
	Stats() Stats
	// Stop drains until ctx ends, then ends what is left. It returns when nothing runs.
	Stop(ctx context.Context) error
}

// Program is a program as a backend sees it: data under a content hash.
type Program struct {
	// Hash is the SHA-256 of Spec, in lowercase hex.
	Hash string
	// Spec is the program's canonical JSON.
	Spec json.RawMessage
}

// Call is one request to execute a program.
type Call struct {
	// ID names the call in logs and events; unique within a Runtime.
	ID string
	// Program is what to execute.
	Program Program
	// Inputs is the JSON object of the program's inputs.
	Inputs json.RawMessage
	// Attachments are the bytes that Inputs refers to, in order.
	Attachments [][]byte
	// LM is how the program reaches its language model, or nil if the call has none.
	LM *LM
	// Adapter is the prompt format: "chat", "json" or "xml".
	Adapter string
	// Demos replace the program's own demonstrations when not nil: a JSON array.
	Demos json.RawMessage
	// Rollout, when not nil, asks for a sample of its own, as DSPy's rollout_id does.
	Rollout *int64

	// Prefer is the id of the worker to take if it can serve; empty leaves the choice to
	// the backend.
	Prefer string
	// Pin has the call executed by Prefer or not at all, and if Prefer is empty by the
	// worker that is chosen first: it is never run again. When that worker is gone, or
	// dies, the error's code is worker_lost and its Worker names it; [ErrUnseen] is in its
	// tree if the worker has seen nothing of the call.
	Pin bool
	// Chosen, if not nil, is told who is about to execute the call, before the call is
	// sent: once for each try. It must return at once.
	Chosen func(worker Worker)
}

// ErrUnseen is in the tree of the error of a call with Pin that its worker has not seen.
var ErrUnseen = errors.New("the worker has not seen the call")

// LM is the language model of one call.
type LM struct {
	// Model serves the requests; it is called concurrently and receives contexts
	// that end with the call.
	Model lm.Model
	// Route is the name under which the program knows the model.
	Route string
	// Capabilities decide how DSPy's adapters talk to the model.
	Capabilities lm.Capabilities
}

// Reply is what a call came to.
type Reply struct {
	// Outputs is the JSON object of every field that DSPy produced.
	Outputs json.RawMessage
	// Attachments are the bytes that Outputs refers to, in order.
	Attachments [][]byte
	// Worker says who executed the call.
	Worker Worker
	// Queue is how long the call waited for a worker.
	Queue time.Duration
	// Reruns is how often the call was run again because its worker had died.
	Reruns int
}

// Worker identifies a worker.
type Worker struct {
	// ID is unique within a Runtime and never used again.
	ID string `json:"id"`
	// PID is the operating system's process id; 0 when there is no process.
	PID int `json:"pid"`
}

// WorkerStats describes one worker at the moment of a snapshot.
type WorkerStats struct {
	Worker

	// State is one of starting, ready, busy, draining, stopping.
	State string `json:"state"`
	// Calls is how many calls it is executing.
	Calls int `json:"calls"`
}

// Stats is a snapshot of a backend. Its slices are the reader's own.
type Stats struct {
	// Backend is the backend's name.
	Backend string `json:"backend"`
	// Mode says how workers are made: "fork", "spawn", or "" when there are none.
	Mode string `json:"mode,omitempty"`
	// Notes are remarks on what the platform does not offer, such as a missing lifeline.
	Notes []string `json:"notes,omitempty"`
	// Workers lists the workers that exist.
	Workers []WorkerStats `json:"workers"`
	// Queued is how many calls wait for a worker.
	Queued int `json:"queued"`
	// Running is how many calls are being executed.
	Running int `json:"running"`
	// Slots is how many calls the ready workers can execute at once.
	Slots int `json:"slots"`
	// Started counts workers started since the backend started.
	Started uint64 `json:"started"`
	// Lost counts workers that died without being told to.
	Lost uint64 `json:"lost"`
	// StartFailures counts workers that did not become ready.
	StartFailures uint64 `json:"start_failures"`
}
