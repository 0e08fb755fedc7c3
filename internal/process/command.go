package process

import (
	"encoding/json"
	"os"
	"path/filepath"

	"github.com/dspex/dspex/internal/status"
)

// Command describes a program to execute.
type Command struct {
	// ID names the process in errors; it may be empty.
	ID string
	// Path is the program. Without a slash it is looked up on PATH.
	Path string
	// Args are its arguments, without the program's name.
	Args []string
	// Env is added to the allow-listed environment, as NAME=value; see [Environ].
	Env []string
	// Dir is its working directory; empty means this process's.
	Dir string
	// Socket asks for a private stream socket: descriptor 4 of the child, [Process.Conn] here.
	Socket bool
	// ExtraFiles become descriptors 4 and up of the child, or 5 and up with Socket. They
	// remain the caller's to close. The child's descriptor 3 is always its lifeline.
	ExtraFiles []*os.File
	// OnLine, if not nil, is given every line that the process prints, without its end;
	// stream is "stdout" or "stderr". It is called from two goroutines, must not block, and
	// must not keep line. A line longer than 64 KiB is cut, with a mark.
	OnLine func(stream string, line []byte)
	// TailLines is how many lines [Process.Tail] keeps; 0 means 50.
	TailLines int
}

// Python says where an interpreter and the worker package are.
type Python struct {
	// Path is the interpreter.
	Path string
	// Source is the directory that holds the package dspex_worker.
	Source string
	// Env is added to the allow-listed environment, as NAME=value; see [Environ].
	Env []string
	// Dir is the working directory of the processes; empty means this process's.
	Dir string
}

// Descriptors of an executed child.
const (
	lifelineFD = 3
	firstFD    = 4
)

// countVariable tells bootstrap.py how many descriptors are meant for it. It closes all
// others: a descriptor of the host that is not closed on exec, perhaps a listening socket,
// must not live on in a worker.
const countVariable = "DSPEX_DESCRIPTORS"

// Module returns the command that runs a Python module as "python -m module args…" would,
// with the lifeline armed before anything is imported.
func (py Python) Module(module string, args ...string) (Command, error) {
	if args == nil {
		args = []string{}
	}
	return py.command("module", map[string]any{"module": module, "args": args})
}

func (py Python) command(kind string, config map[string]any) (Command, error) {
	text, err := json.Marshal(config)
	if err != nil {
		return Command{}, status.Wrap(status.InvalidArgument, "start", err, "the options of a process cannot be encoded: %v", err)
	}
	return Command{
		Path: py.Path,
		Args: []string{"-s", filepath.Join(py.Source, "dspex_worker", "bootstrap.py"), kind, string(text)},
		Env:  py.Env,
		Dir:  py.Dir,
	}, nil
}
