// Package chaos makes workers misbehave on request, for the tests of this module and for
// `dspex soak`. Nothing outside the module can reach it.
package chaos

import (
	"context"
	"encoding/json"
	"sync"

	"github.com/dspex/dspex/internal/status"
)

// Op is what a worker is asked to do, as its method worker.debug takes it.
type Op map[string]any

// Do asks some worker of a Runtime to do op.
type Do func(ctx context.Context, op map[string]any) (json.RawMessage, error)

// Handle reaches the workers of one Runtime: the one that is opened with its Context.
type Handle struct {
	// Environ is added to the environment of the Python processes, as NAME=value.
	Environ []string

	mu sync.Mutex
	do Do // guarded by mu
}

type key struct{}

// Context returns a context that makes the Runtime which is opened with it misbehave on
// request.
func (h *Handle) Context(ctx context.Context) context.Context {
	return context.WithValue(ctx, key{}, h)
}

// From returns the handle in ctx, or nil.
func From(ctx context.Context) *Handle {
	h, _ := ctx.Value(key{}).(*Handle)
	return h
}

// Attach gives the handle the way to its workers.
func (h *Handle) Attach(do Do) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.do = do
}

// Do asks some worker to misbehave. It returns the worker's answer; that it died is an
// error of code worker_lost.
func (h *Handle) Do(ctx context.Context, op Op) (json.RawMessage, error) {
	h.mu.Lock()
	do := h.do
	h.mu.Unlock()
	if do == nil {
		return nil, status.New(status.Unavailable, "chaos", "no Runtime was opened with this handle")
	}
	return do(ctx, op)
}
