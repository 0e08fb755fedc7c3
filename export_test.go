package dspex

import (
	"context"
	"encoding/json"

	"github.com/dspex/dspex/internal/backend/process"
	"github.com/dspex/dspex/internal/chaos"
)

// OpenDebug opens a Runtime whose workers misbehave on request. Environ is added to the
// environment of the Python processes.
func OpenDebug(ctx context.Context, config Config, environ ...string) (*Runtime, error) {
	return Open((&chaos.Handle{Environ: environ}).Context(ctx), config)
}

// Misbehave asks a worker that was opened with OpenDebug for something bad.
func Misbehave(ctx context.Context, rt *Runtime, op map[string]any) (json.RawMessage, error) {
	b, ok := rt.backend.(*process.Backend)
	if !ok {
		panic("dspex: only the process backend can misbehave")
	}
	return b.Debug(ctx, op)
}
