//go:build unix && !linux

package process

import (
	"context"
	"errors"
)

var errForkerLost = errors.New("the fork server has ended")

func canFork() bool { return false }

// forker does not exist on this platform.
type forker struct {
	proc *Process
	lost chan struct{}
}

func startForker(context.Context, ServerOptions) (*forker, error) {
	return nil, &refusedError{"the platform cannot fork workers"}
}

func (f *forker) worker(WorkerOptions) (*Process, error) {
	return nil, errForkerLost
}

func (f *forker) close() {}
