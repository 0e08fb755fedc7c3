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

// Info is what a worker says about itself. Memory is in KiB.
type Info struct {
	PID          int `json:"pid"`
	PSS          int `json:"pss_kb"`
	PrivateDirty int `json:"private_dirty_kb"`
	Greenlets    int `json:"greenlets"`
	Threads      int `json:"threads"`
	Programs     int `json:"programs"`
	Calls        int `json:"calls"`
	Descriptors  int `json:"fds"`
}

// InfoOf asks some worker about itself.
func InfoOf(ctx context.Context, rt *Runtime) (info Info, err error) {
	data, err := processOf(rt).Info(ctx)
	if err != nil {
		return Info{}, err
	}
	err = json.Unmarshal(data, &info)
	return info, err
}

// Echo sends data to some worker and returns what came back.
func Echo(ctx context.Context, rt *Runtime, data [][]byte) ([][]byte, error) {
	return processOf(rt).Echo(ctx, data)
}

func processOf(rt *Runtime) *process.Backend {
	b, ok := rt.backend.(*process.Backend)
	if !ok {
		panic("dspex: only the process backend has workers")
	}
	return b
}
