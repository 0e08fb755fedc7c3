package pyenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/python"
)

// Older uv lacks flags that are used here.
const (
	minUVMajor = 0
	minUVMinor = 5
)

// tools says what an interpreter has for making environments.
type tools struct {
	Venv      bool `json:"venv"`
	Ensurepip bool `json:"ensurepip"`
	Pip       bool `json:"pip"`
}

// toolScript asks without importing: a broken pip must not count as an error here.
const toolScript = `
import json, sys
from importlib.util import find_spec
sys.stdout.write("\n" + json.dumps({n: find_spec(n) is not None for n in ("venv", "ensurepip", "pip")}) + "\n")
`

func (s *setup) findTools(ctx context.Context, py *interpreter) (*tools, error) {
	out, err := run(ctx, command{Path: py.Path, Args: []string{"-I", "-c", toolScript}, Env: s.environ.forPython()})
	if err != nil {
		return nil, s.failed(ctx, py.Path+" does not run", err)
	}
	var t tools
	if err := json.Unmarshal(lastLine(out.Stdout), &t); err != nil {
		return nil, status.Wrap(status.Unavailable, op, err, "%s gave an unreadable answer; name another Python with DSPEX_PYTHON", py.Path)
	}
	return &t, nil
}

// installer installs packages into a venv: with uv or, where uv cannot be had, with pip.
type installer struct {
	uv  string   // path of uv, or empty
	pip []string // how to run pip, where there is no uv
	env []string
}

// install returns the command that installs a list into an environment.
func (i *installer) install(dir, list string) command {
	same := []string{"--no-deps", "--require-hashes", "--only-binary", ":all:", "--requirement", list}
	if i.uv != "" {
		args := append([]string{"pip", "install", "--python", venvPython(dir)}, same...)
		return command{Path: i.uv, Args: args, Env: i.env}
	}
	args := append(append([]string{}, i.pip[1:]...), "--python", venvPython(dir), "install", "--no-compile", "--no-warn-script-location", "--progress-bar", "off")
	return command{Path: i.pip[0], Args: append(args, same...), Env: i.env}
}

// installer finds uv on PATH or among what was fetched before, else fetches it with pip. The
// lock is held.
func (s *setup) installer(ctx context.Context, py *interpreter, t *tools) (*installer, error) {
	if uv := s.uvOnPath(ctx); uv != "" {
		return s.withUV(ctx, uv, py, t), nil
	}
	lock, err := python.Lock("uv")
	if err != nil {
		return nil, status.Wrap(status.Internal, op, err, "the lock of uv is not part of this build")
	}
	sum := sha256.Sum256(lock)
	place := filepath.Join(s.root, "tools", "uv-"+hex.EncodeToString(sum[:6]))
	uv := uvIn(place)
	if s.uvVersion(ctx, uv) == nil {
		return s.withUV(ctx, uv, py, t), nil
	}
	scratch, err := s.scratch("tools")
	if err != nil {
		return nil, err
	}
	defer removeAll(scratch)
	pip, err := s.pip(ctx, py, t, scratch)
	if err != nil {
		return nil, err
	}
	s.progress(Progress{Step: StepTool})
	fetched := filepath.Join(scratch, "uv")
	if err := s.fetchUV(ctx, pip, lock, scratch, fetched); err != nil {
		if kind := classify(err); ctx.Err() != nil || kind == networkFault || kind == diskFault {
			return nil, s.failed(ctx, "cannot fetch uv, which installs the Python packages", err)
		}
		if !t.Pip {
			return nil, s.failed(ctx, "cannot fetch uv, which installs the Python packages", err)
		}
		// An index without uv, or a machine that uv is not made for: slower, but as good.
		return &installer{pip: []string{py.Path, "-I", "-m", "pip"}, env: s.pipEnv()}, nil
	}
	if err := s.install(fetched, place); err != nil {
		return nil, err
	}
	return s.withUV(ctx, uv, py, t), nil
}

func (s *setup) withUV(ctx context.Context, uv string, py *interpreter, t *tools) *installer {
	return &installer{uv: uv, env: s.uvEnv(ctx, py, t)}
}

func uvIn(dir string) string {
	name := "uv"
	if runtime.GOOS == "windows" {
		name = "uv.exe"
	}
	return filepath.Join(dir, "bin", name)
}

// uvOnPath returns the first uv on PATH that runs and is new enough, or "".
func (s *setup) uvOnPath(ctx context.Context) string {
	for _, path := range s.environ.lookPaths("uv") {
		if s.uvVersion(ctx, path) == nil {
			return path
		}
	}
	return ""
}

func (s *setup) uvVersion(ctx context.Context, path string) error {
	if _, err := os.Stat(path); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := run(ctx, command{Path: path, Args: []string{"--version"}, Env: s.environ.vars})
	if err != nil {
		return err
	}
	var major, minor int
	if _, err := fmt.Sscanf(string(out.Stdout), "uv %d.%d", &major, &minor); err != nil {
		return err
	}
	if major < minUVMajor || major == minUVMajor && minor < minUVMinor {
		return fmt.Errorf("uv %d.%d is too old", major, minor)
	}
	return nil
}

// pip returns how to run some pip. Any will do to fetch uv, whose wheels fit every Python: the
// interpreter's own, one that ensurepip unpacks, or that of another Python on PATH.
func (s *setup) pip(ctx context.Context, py *interpreter, t *tools, scratch string) ([]string, error) {
	if t.Pip {
		return []string{py.Path, "-I", "-m", "pip"}, nil
	}
	if t.Venv && t.Ensurepip {
		boot := filepath.Join(scratch, "boot")
		_, err := run(ctx, command{Path: py.Path, Args: []string{"-I", "-m", "venv", boot}, Env: s.environ.forPython()})
		if err == nil {
			return []string{venvPython(boot), "-I", "-m", "pip"}, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
	}
	for _, name := range []string{"pip3", "pip"} {
		for _, path := range s.environ.lookPaths(name) {
			if _, err := run(ctx, command{Path: path, Args: []string{"--version"}, Env: s.pipEnv()}); err == nil {
				return []string{path}, nil
			}
		}
	}
	return nil, s.noInstaller(py, "neither uv nor pip was found")
}

func (s *setup) noInstaller(py *interpreter, why string) error {
	return status.New(status.Unavailable, op,
		"nothing can install packages for %s: %s; put uv on PATH, or install pip and venv for this Python (on Debian and Ubuntu: apt install python3-venv python3-pip)",
		py.Path, why)
}

func (s *setup) fetchUV(ctx context.Context, pip []string, lock []byte, scratch, target string) error {
	list := filepath.Join(scratch, "uv.txt")
	if err := os.WriteFile(list, lock, 0o644); err != nil {
		return err
	}
	args := append(append([]string{}, pip[1:]...), "install", "--no-deps", "--require-hashes", "--only-binary", ":all:",
		"--no-compile", "--no-warn-script-location", "--progress-bar", "off", "--target", target, "--requirement", list)
	_, err := run(ctx, command{Path: pip[0], Args: args, Env: s.pipEnv(), Dir: scratch})
	return err
}
