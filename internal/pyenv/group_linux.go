package pyenv

import (
	"context"
	"errors"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// runGroup starts cmd as the leader of a process group and waits for it. The group is killed
// when ctx ends, and what is left of it when the leader has ended; both while the leader is not
// reaped, so that its number cannot belong to anyone else.
func runGroup(ctx context.Context, cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	done := make(chan error, 1)
	go func() {
		// Pdeathsig means the death of the thread that started the process, so that thread
		// has to stay.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		done <- waitGroup(ctx, cmd)
	}()
	return <-done
}

func waitGroup(ctx context.Context, cmd *exec.Cmd) error {
	if err := cmd.Start(); err != nil {
		return err
	}
	pid := cmd.Process.Pid
	kill := func() { _ = unix.Kill(-pid, unix.SIGKILL) }
	ended := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
			kill()
		case <-ended:
		}
	}()
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	close(ended)
	<-stopped
	kill()
	return cmd.Wait()
}
