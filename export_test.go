package dspex

import (
	"context"
	"encoding/json"

	"github.com/dspex/dspex/internal/backend/process"
)

// OpenDebug opens a Runtime whose workers misbehave on request. Environ is added to the
// environment of the Python processes.
func OpenDebug(ctx context.Context, config Config, environ ...string) (*Runtime, error) {
	return open(ctx, config, func(o *process.Options) {
		o.Debug = true
		o.Environ = append(o.Environ, environ...)
	})
}

// Misbehave asks a worker that was opened with OpenDebug for something bad.
func Misbehave(ctx context.Context, rt *Runtime, op map[string]any) (json.RawMessage, error) {
	b, ok := rt.backend.(*process.Backend)
	if !ok {
		panic("dspex: only the process backend can misbehave")
	}
	return b.Debug(ctx, op)
}
