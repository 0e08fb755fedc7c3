package process

import (
	"os"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

func pipe() (r, w int, err error) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC); err != nil {
		return -1, -1, os.NewSyscallError("pipe2", err)
	}
	return p[0], p[1], nil
}

func rawSocketPair(kind int) (ours, theirs int, err error) {
	p, err := unix.Socketpair(unix.AF_UNIX, kind|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, -1, os.NewSyscallError("socketpair", err)
	}
	return p[0], p[1], nil
}

// duplicate returns a duplicate of fd that is not below floor.
func duplicate(fd, floor int) (int, error) {
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, floor)
	return n, os.NewSyscallError("fcntl", err)
}

// arm makes the kernel kill the process group pgid when the lifeline is cut.
func (l *lifeline) arm(pgid int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hold < 0 {
		return nil
	}
	fd := uintptr(l.hold)
	if _, err := unix.FcntlInt(fd, unix.F_SETOWN, -pgid); err != nil {
		return os.NewSyscallError("F_SETOWN", err)
	}
	if _, err := unix.FcntlInt(fd, unix.F_SETSIG, int(unix.SIGKILL)); err != nil {
		return os.NewSyscallError("F_SETSIG", err)
	}
	flags, err := unix.FcntlInt(fd, unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("F_GETFL", err)
	}
	_, err = unix.FcntlInt(fd, unix.F_SETFL, flags|unix.O_ASYNC)
	return os.NewSyscallError("F_SETFL", err)
}

// stayOnThread keeps the calling goroutine, and so the thread that becomes the parent of
// its children, until the returned function is called. PR_SET_PDEATHSIG, which covers a
// child until its lifeline is armed, acts when that thread ends, not the process.
func stayOnThread() func() {
	runtime.LockOSThread()
	return runtime.UnlockOSThread
}

// start executes a program as the leader of a new process group.
func start(path string, argv []string, attr *syscall.ProcAttr) (handle, int, error) {
	pidfd := -1
	attr.Sys = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL, PidFD: &pidfd}
	pid, _, err := syscall.StartProcess(path, argv, attr)
	if err != nil {
		return nil, 0, err
	}
	return newHandle(pid, pidfd), pid, nil
}
