//go:build unix && !linux

package process

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func pipe() (r, w int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	var p [2]int
	if err := syscall.Pipe(p[:]); err != nil {
		return -1, -1, os.NewSyscallError("pipe", err)
	}
	syscall.CloseOnExec(p[0])
	syscall.CloseOnExec(p[1])
	return p[0], p[1], nil
}

func rawSocketPair(kind int) (ours, theirs int, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	p, err := unix.Socketpair(unix.AF_UNIX, kind, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	syscall.CloseOnExec(p[0])
	syscall.CloseOnExec(p[1])
	return p[0], p[1], nil
}

func duplicate(fd, floor int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, floor)
	return n, os.NewSyscallError("fcntl", err)
}

func (l *lifeline) arm(int) error { return errors.ErrUnsupported }

func stayOnThread() func() { return func() {} }

func start(path string, argv []string, attr *syscall.ProcAttr) (handle, int, error) {
	attr.Sys = &syscall.SysProcAttr{Setpgid: true}
	pid, _, err := syscall.StartProcess(path, argv, attr)
	if err != nil {
		return nil, 0, err
	}
	proc, err := os.FindProcess(pid)
	if err != nil {
		return nil, 0, err
	}
	return &childHandle{proc: proc, exit: Exit{Code: -1, Unknown: true}}, pid, nil
}

// childHandle leaves the pid's identity to os.Process, which sends no signal once the child
// was reaped. Descendants of a child that ends by itself are not killed here.
type childHandle struct {
	proc *os.Process
	exit Exit
}

func (h *childHandle) wait() {
	state, err := h.proc.Wait()
	if err != nil {
		return
	}
	ws, ok := state.Sys().(syscall.WaitStatus)
	switch {
	case !ok:
	case ws.Signaled():
		h.exit = Exit{Code: -1, Signal: ws.Signal(), Core: ws.CoreDump()}
	default:
		h.exit = Exit{Code: ws.ExitStatus()}
	}
}

func (h *childHandle) reap() Exit { return h.exit }

func (h *childHandle) signal(sig syscall.Signal) { _ = h.proc.Signal(sig) }

func (h *childHandle) close() {}
