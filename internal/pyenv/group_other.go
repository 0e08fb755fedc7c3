//go:build !linux

package pyenv

import (
	"context"
	"os/exec"
)

// waitKilled starts cmd and waits for it, calling kill when ctx ends first.
func waitKilled(ctx context.Context, cmd *exec.Cmd, kill func()) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		kill()
		return <-done
	}
}
