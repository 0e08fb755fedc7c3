package process

import (
	"errors"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// childHandle holds a child by its pidfd or, on a kernel without them, by not reaping it.
type childHandle struct {
	pid int
	fd  *os.File // the pidfd; nil if there is none

	mu    sync.Mutex // guards ended and gone, and all use of pid
	ended bool       // the child is a zombie that only we reap
	gone  bool       // the child was reaped: pid may mean another process
}

// adopt returns the handle of a child that the fork server made for us. The child is not
// reaped by anybody else, so its pid is still its own.
func adopt(pid int) handle {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		fd = -1
	}
	return newHandle(pid, fd)
}

func newHandle(pid, pidfd int) handle {
	h := &childHandle{pid: pid}
	if pidfd >= 0 {
		unix.CloseOnExec(pidfd)
		if err := unix.SetNonblock(pidfd, true); err == nil { // else Go's poller does not take it
			h.fd = os.NewFile(uintptr(pidfd), "pidfd")
		} else {
			_ = unix.Close(pidfd)
		}
	}
	return h
}

func (h *childHandle) wait() {
	err := h.poll()
	if err != nil {
		err = h.block()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = err == nil
	h.gone = err != nil // somebody else has reaped it
}

// poll waits in Go's poller. It fails if that is impossible, or if there is no such child.
func (h *childHandle) poll() error {
	if h.fd == nil {
		return errors.ErrUnsupported
	}
	conn, err := h.fd.SyscallConn()
	if err != nil {
		return err
	}
	var failure error
	err = conn.Read(func(fd uintptr) bool {
		var ended bool
		ended, failure = peek(unix.P_PIDFD, int(fd), unix.WNOHANG)
		return ended || failure != nil
	})
	return errors.Join(err, failure)
}

// block waits in a system call.
func (h *childHandle) block() error {
	_, err := peek(unix.P_PID, h.pid, 0)
	return err
}

// peek tells whether a child has ended, without reaping it.
func peek(kind, id, options int) (bool, error) {
	for {
		var info unix.Siginfo
		err := unix.Waitid(kind, id, &info, unix.WEXITED|unix.WNOWAIT|options, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		return info.Signo != 0, err
	}
}

func (h *childHandle) reap() Exit {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.ended {
		return Exit{Code: -1, Unknown: true}
	}
	// While its leader is not reaped, the group's id cannot be anybody else's.
	_ = unix.Kill(-h.pid, unix.SIGKILL)
	h.gone = true
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(h.pid, &ws, 0, nil)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return Exit{Code: -1, Unknown: true}
		case ws.Signaled():
			return Exit{Code: -1, Signal: ws.Signal(), Core: ws.CoreDump()}
		default:
			return Exit{Code: ws.ExitStatus()}
		}
	}
}

func (h *childHandle) signal(sig syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.gone {
		return
	}
	if h.fd == nil {
		_ = unix.Kill(h.pid, sig)
		return
	}
	conn, err := h.fd.SyscallConn()
	if err != nil {
		return
	}
	_ = conn.Control(func(fd uintptr) { _ = unix.PidfdSendSignal(int(fd), sig, nil, 0) })
}

func (h *childHandle) close() {
	if h.fd != nil {
		_ = h.fd.Close()
	}
}
