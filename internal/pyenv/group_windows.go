package pyenv

import (
	"context"
	"os/exec"
)

// runGroup starts cmd and waits for it; it is killed when ctx ends.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	return waitKilled(ctx, cmd, func() { _ = cmd.Process.Kill() })
}
