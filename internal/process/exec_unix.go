//go:build unix

package process

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/dspex/dspex/internal/status"
)

// Exec executes a program in a process group of its own, with a lifeline. It returns as
// soon as the program runs; ctx bounds only that, not the program's life. Whoever starts a
// process must see it end: call [Process.Kill] and wait for [Process.Done].
//
// Errors: unavailable when the program cannot be executed, with the reason; canceled or
// deadline_exceeded when ctx has ended.
func Exec(ctx context.Context, c Command) (*Process, error) {
	return launch(ctx, c, launchOptions{arm: true})
}

// launchOptions are what only this package decides.
type launchOptions struct {
	arm    bool  // arm the lifeline from here, for children that do not do it themselves
	stacks bool  // the child gets a pipe for faulthandler as its last descriptor
	pass   []int // further descriptors for the child, after Command.ExtraFiles
}

func launch(ctx context.Context, c Command, o launchOptions) (*Process, error) {
	if ctx.Err() != nil {
		return nil, status.FromContext(ctx, "start", "no time was left to start "+c.Path)
	}
	path, err := look(c.Path)
	if err != nil {
		return nil, startError(c, c.Path, err)
	}
	p := &Process{
		id:     c.ID,
		path:   path,
		output: &capture{tail: newTail(c.TailLines), onLine: c.OnLine},
		done:   make(chan struct{}),
	}
	var e ends
	defer e.close()
	if err := p.plumb(&e, c.Socket, o.stacks); err != nil {
		return nil, startError(c, path, err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		p.abandon()
		return nil, startError(c, path, err)
	}
	defer null.Close()

	files := []uintptr{null.Fd(), uintptr(e.out), uintptr(e.err), uintptr(e.line)}
	if c.Socket {
		files = append(files, uintptr(e.socket))
	}
	for _, f := range c.ExtraFiles {
		files = append(files, f.Fd())
	}
	for _, fd := range o.pass {
		files = append(files, uintptr(fd))
	}
	if o.stacks {
		files = append(files, uintptr(e.stacks))
	}

	started := make(chan error, 1)
	go func() {
		defer stayOnThread()()
		env := Environ(os.Environ(), append(slices.Clip(c.Env), fmt.Sprintf("%s=%d", countVariable, len(files)))...)
		attr := &syscall.ProcAttr{Dir: c.Dir, Env: env, Files: files}
		handle, pid, err := start(path, append([]string{path}, c.Args...), attr)
		if err != nil {
			started <- err
			return
		}
		p.handle, p.pid = handle, pid
		if o.arm {
			// The child may be no Python. Where this fails the child's own watching remains.
			_ = p.lifeline.arm(pid)
		}
		started <- nil
		p.supervise(nil)
	}()
	if err := <-started; err != nil {
		p.abandon()
		return nil, startError(c, path, err)
	}
	return p, nil
}

// ends are the child's ends of what connects it with this process, -1 where there is none.
type ends struct {
	made                           bool
	out, err, line, socket, stacks int
}

func (e *ends) close() {
	if !e.made {
		return
	}
	for _, fd := range []int{e.out, e.err, e.line, e.socket, e.stacks} {
		if fd >= 0 {
			_ = syscall.Close(fd)
		}
	}
	e.made = false
}

// plumb makes everything that connects p with its child. On error nothing is left open
// but e, which the caller closes.
func (p *Process) plumb(e *ends, socket, stacks bool) (err error) {
	*e = ends{made: true, out: -1, err: -1, line: -1, socket: -1, stacks: -1}
	defer func() {
		if err != nil {
			p.abandon()
		}
	}()
	if p.lifeline, e.line, err = newLifeline(); err != nil {
		return err
	}
	for _, s := range []struct {
		name string
		end  *int
	}{{"stdout", &e.out}, {"stderr", &e.err}} {
		r, w, err := readablePipe(s.name)
		if err != nil {
			return err
		}
		*s.end = w
		p.output.read(s.name, r)
	}
	if socket {
		conn, theirs, err := socketPair(syscall.SOCK_STREAM)
		if err != nil {
			return err
		}
		p.conn, e.socket = conn, theirs
	}
	if stacks {
		if p.stacks, e.stacks, err = readablePipe("stacks"); err != nil {
			return err
		}
	}
	return nil
}

// abandon closes this side of everything that connects p with a child that never was.
func (p *Process) abandon() {
	if p.lifeline != nil {
		p.lifeline.cut()
		p.lifeline.release()
	}
	p.output.finish()
	if p.conn != nil {
		_ = p.conn.Close()
	}
	if p.stacks != nil {
		_ = p.stacks.Close()
	}
}

// readablePipe returns a pipe whose read end serves Go's poller and whose write end is a
// plain blocking descriptor, as a child expects.
func readablePipe(name string) (*os.File, int, error) {
	r, w, err := pipe()
	if err != nil {
		return nil, -1, err
	}
	if err := syscall.SetNonblock(r, true); err != nil {
		_ = syscall.Close(r)
		_ = syscall.Close(w)
		return nil, -1, os.NewSyscallError("fcntl", err)
	}
	return os.NewFile(uintptr(r), name), w, nil
}

// socketPair returns a connected pair of Unix sockets: one for Go, one for a child.
func socketPair(kind int) (*net.UnixConn, int, error) {
	ours, theirs, err := rawSocketPair(kind)
	if err != nil {
		return nil, -1, err
	}
	file := os.NewFile(uintptr(ours), "socket")
	conn, err := net.FileConn(file)
	_ = file.Close()
	if err != nil {
		_ = syscall.Close(theirs)
		return nil, -1, err
	}
	unix, ok := conn.(*net.UnixConn)
	if !ok {
		_ = conn.Close()
		_ = syscall.Close(theirs)
		return nil, -1, fmt.Errorf("a Unix socket became a %T", conn)
	}
	return unix, theirs, nil
}

func readNow(fd uintptr, buf []byte) (int, error) { return syscall.Read(int(fd), buf) }

func look(path string) (string, error) {
	if filepath.Base(path) == path {
		return exec.LookPath(path)
	}
	return path, nil
}

// startError explains why a program could not be executed.
func startError(c Command, path string, err error) error {
	hint := ""
	switch {
	case errors.Is(err, os.ErrNotExist) && c.Dir != "" && !isDir(c.Dir):
		hint = "; the working directory " + c.Dir + " does not exist"
	case errors.Is(err, os.ErrNotExist):
		hint = "; there is no such file, or its interpreter or loader is missing"
	case errors.Is(err, os.ErrPermission):
		hint = "; the file or a directory above it may not be executed by this user, or its file system is mounted noexec"
	case errors.Is(err, syscall.ENOEXEC):
		hint = "; the file is not a program for this machine"
	case errors.Is(err, syscall.EMFILE), errors.Is(err, syscall.ENFILE):
		hint = "; raise the limit of open files"
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOMEM):
		hint = "; there are too many processes or too little memory"
	}
	e := status.Wrap(status.Unavailable, "start", err, "cannot execute %s: %v%s", path, err, hint)
	e.Worker = c.ID
	e.Retryable = errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOMEM) || errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE)
	return e
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}
