package dspex

import (
	"time"

	"github.com/dspex/dspex/internal/backend"
	"github.com/dspex/dspex/lm"
)

// Prediction is the result of one call.
type Prediction[Out any] struct {
	// Output holds the program's outputs.
	Output Out
	// Reasoning is the text that [ChainOfThought] produced before its outputs.
	Reasoning string
	// Usage sums the tokens of Calls.
	Usage lm.Usage
	// Calls lists every language model attempt, in the order in which they ended.
	Calls []lm.Call
	// Reruns is how often the call was run again, answered from what was already paid
	// for, because its worker had died: 0 or 1.
	Reruns int
	// Worker is the worker that executed the call.
	Worker WorkerRef
	// Timing says how long the call took.
	Timing Timing
	// Backend is the name of the backend that executed the call.
	Backend string
}

// WorkerRef identifies a worker: its ID, never used again by the Runtime, and the PID of
// its process.
type WorkerRef = backend.Worker

// Timing is how long a call took, as seen by its caller.
type Timing struct {
	// Queue is how long it waited for a worker.
	Queue time.Duration
	// Total is the whole call, Queue included.
	Total time.Duration
}
