// Package pyenv finds, builds and checks the Python environment that workers run in.
//
// An environment is a venv made from a hash-pinned lock that is part of the module, kept below
// one root folder:
//
//	<root>/env/<key>          one venv; the key names the interpreter and the lock
//	<root>/src/<hash>         the sources of the package dspex_worker, compiled
//	<root>/tools/uv-<hash>    the installer, where the machine has none
//	<root>/interpreters       what is known about the machine's interpreters
//	<root>/lock               held while something is built, by any process
//
// Everything is built beside its place and renamed into it when it is whole, so a build that is
// killed leaves nothing that could be taken for good. Once built, nothing is written, locked or
// fetched: the root may be read-only and the machine offline.
package pyenv

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// op names what this package does in its errors.
const op = "setup"

// Local is the [Options.Extra] for the environment of the model on this machine.
const Local = "local"

// Options says which environment is wanted. The zero value is the workers' environment in the
// user's cache, made with the first suitable python3 on PATH.
type Options struct {
	// Interpreter is the Python to build with: a path, or a name to look up on PATH. Empty
	// means the first of python3, python3.13, … on PATH that is suitable.
	Interpreter string
	// Path is the Python of an environment of the user's own. It is used as it is, after a
	// check that it holds what workers need; nothing is installed. Empty means none.
	Path string
	// Dir is the root folder. Empty means the folder "dspex" in the user's cache.
	Dir string
	// Extra names the lock: "" for the workers' or [Local].
	Extra string
	// Offline forbids the network: a missing environment is built from the installer's
	// cache, or not at all.
	Offline bool
	// Rebuild builds the environment and the sources anew even when they look whole.
	Rebuild bool
	// Progress is told each step of a build, in order, from one goroutine at a time. It is
	// not called when there is nothing to build. Nil means that nobody listens.
	Progress func(Progress)
	// Environ is the environment that PATH is read from and that the installer runs in, so
	// that the user's settings of pip, uv, proxies and certificates apply. Nil means this
	// process's own.
	Environ []string
}

// Env is an environment that is ready to use.
type Env struct {
	// Python is the path of the interpreter to run.
	Python string `json:"python"`
	// Source is the folder that holds the package dspex_worker; it goes on Python's path.
	Source string `json:"source"`
	// Root is the root folder, as in [Options.Dir].
	Root string `json:"root"`
	// Dir is the environment's folder. It is empty for an environment of the user's own.
	Dir string `json:"dir,omitempty"`
	// Key identifies the interpreter and the lock. It is empty for an environment of the
	// user's own.
	Key string `json:"key,omitempty"`
	// Interpreter is the path of the interpreter that the environment was built with.
	Interpreter string `json:"interpreter"`
	// Version is the interpreter's version, such as "3.11.2".
	Version string `json:"version"`
	// Dspy is the version of DSPy, empty where the environment holds none (an extra).
	Dspy string `json:"dspy,omitempty"`
	// Packages holds the version of each installed distribution, by its normalised name. For
	// an environment of the user's own only those that were checked are named.
	Packages map[string]string `json:"packages,omitempty"`
	// Own is true for an environment of the user's own.
	Own bool `json:"own,omitempty"`
	// Built is true when this call built it, false when it was found.
	Built bool `json:"built"`
	// Elapsed is how long this call took.
	Elapsed time.Duration `json:"elapsed"`
}

// Ensure returns the environment that o asks for, building it when it is missing or broken. It
// is safe to call from many goroutines and many processes at once: one builds, the others wait.
// When ctx ends, the build is stopped and leaves nothing behind.
//
// Errors are *status.Error: invalid_argument for options that make no sense; unavailable, with
// what to do, when there is no suitable Python, no network, no room or no installer; canceled
// and deadline_exceeded when ctx ends.
func Ensure(ctx context.Context, o Options) (*Env, error) {
	start := time.Now()
	env, err := ensure(ctx, o)
	if err != nil {
		if ctx.Err() != nil {
			return nil, status.FromContext(ctx, op, "the set-up of Python was stopped before it was done; nothing half-made is left")
		}
		return nil, err
	}
	env.Elapsed = time.Since(start)
	return env, nil
}

func ensure(ctx context.Context, o Options) (*Env, error) {
	s, err := newSetup(o)
	if err != nil {
		return nil, err
	}
	if o.Path != "" {
		return s.ensureOwn(ctx)
	}
	py, err := s.findPython(ctx)
	if err != nil {
		return nil, err
	}
	return s.ensureBuilt(ctx, py)
}

// ensureBuilt looks first and locks only when something is missing, so that a root that cannot
// be written serves as well as any once it is complete.
func (s *setup) ensureBuilt(ctx context.Context, py *interpreter) (*Env, error) {
	if !s.opts.Rebuild {
		if env, err := s.inspectBuilt(py); err == nil {
			return env, nil
		}
	}
	unlock, err := s.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	s.removeLeftovers()
	s.remember(py)
	source, err := s.ensureSource(ctx, py, s.opts.Rebuild)
	if err != nil {
		return nil, err
	}
	if !s.opts.Rebuild {
		if env, err := s.inspectBuilt(py); err == nil {
			return env, nil
		}
	}
	if err := s.build(ctx, py, source); err != nil {
		return nil, err
	}
	env, err := s.inspectBuilt(py)
	if err != nil {
		return nil, status.Wrap(status.Internal, op, err, "the environment was built but is not whole: %v", err)
	}
	env.Built = true
	s.progress(Progress{Step: StepDone, Detail: env.Dir})
	return env, nil
}

// inspectBuilt returns the environment and its sources if both are whole, without running or
// writing anything.
func (s *setup) inspectBuilt(py *interpreter) (*Env, error) {
	m, err := s.verifyEnv(py)
	if err != nil {
		return nil, err
	}
	source, err := s.verifySource(py)
	if err != nil {
		return nil, err
	}
	dir := s.envDir(py)
	return &Env{
		Python:      venvPython(dir),
		Source:      source,
		Root:        s.root,
		Dir:         dir,
		Key:         s.key(py),
		Interpreter: py.Path,
		Version:     py.Version(),
		Dspy:        m.Packages["dspy"],
		Packages:    m.Packages,
	}, nil
}

// defaultRoot returns the folder for this user's environments.
func defaultRoot() (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", status.Wrap(status.Unavailable, op, err,
			"no place for the Python environment: this user has no home or cache folder; name one with Config.Python.Dir, DSPEX_PYTHON_DIR or `dspex setup --dir DIR`")
	}
	return filepath.Join(cache, "dspex"), nil
}
