//go:build unix && !linux

package pyenv

import (
	"context"
	"os/exec"
	"syscall"
)

// runGroup starts cmd as the leader of a process group and waits for it; the group is killed
// when ctx ends. This kernel cannot tie a child's life to its parent's: an installer whose host
// is killed runs on to its end, in a folder that the next build removes.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return waitKilled(ctx, cmd, func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
}
