package pyenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dspex/dspex/internal/status"
)

// build makes the environment for py and puts it in place. The lock is held.
func (s *setup) build(ctx context.Context, py *interpreter, source string) error {
	tools, err := s.findTools(ctx, py)
	if err != nil {
		return err
	}
	scratch, err := s.scratch("env")
	if err != nil {
		return err
	}
	defer removeAll(scratch)
	inst, err := s.installer(ctx, py, tools)
	if err != nil {
		return err
	}
	s.progress(Progress{Step: StepCreate, Detail: "Python " + py.Version() + " from " + py.Path})
	if err := s.createVenv(ctx, py, tools, inst, scratch); err != nil {
		return err
	}
	if err := s.installLock(ctx, inst, scratch); err != nil {
		return err
	}
	s.progress(Progress{Step: StepVerify})
	m, err := s.tryOut(ctx, scratch, source)
	if err != nil {
		return err
	}
	m.Key, m.Interpreter, m.Version = s.key(py), py.Path, py.Full
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return status.Wrap(status.Internal, op, err, "cannot write down what was installed")
	}
	if err := os.WriteFile(filepath.Join(scratch, envMarker), data, 0o644); err != nil {
		return s.unwritable(err)
	}
	return s.install(scratch, s.envDir(py))
}

// createVenv makes an empty venv without pip, which needs no ensurepip.
func (s *setup) createVenv(ctx context.Context, py *interpreter, tools *tools, inst *installer, dir string) error {
	var c command
	switch {
	case tools.Venv:
		c = command{Path: py.Path, Args: []string{"-I", "-m", "venv", "--without-pip", dir}, Env: s.environ.forPython()}
	case inst.uv != "":
		c = command{Path: inst.uv, Args: []string{"venv", "--quiet", "--no-project", "--allow-existing", "--python", py.Path, dir}, Env: inst.env}
	default:
		return s.noInstaller(py, "it has no module venv")
	}
	if _, err := run(ctx, c); err != nil {
		return s.failed(ctx, "cannot create a venv with "+py.Path, err)
	}
	// Scripts that uv writes then find their interpreter beside themselves, wherever the
	// environment is renamed to.
	cfg := filepath.Join(dir, "pyvenv.cfg")
	data, err := os.ReadFile(cfg)
	if err != nil {
		return s.failed(ctx, "cannot create a venv with "+py.Path, err)
	}
	if !bytes.Contains(data, []byte("relocatable")) {
		data = append(data, "relocatable = true\n"...)
	}
	if err := os.WriteFile(cfg, data, 0o644); err != nil {
		return s.unwritable(err)
	}
	return nil
}

// installLock installs exactly what the lock says: hashes are required, only wheels are taken.
func (s *setup) installLock(ctx context.Context, inst *installer, dir string) error {
	list := filepath.Join(dir, "lock.txt")
	if err := os.WriteFile(list, s.lockText, 0o644); err != nil {
		return s.unwritable(err)
	}
	count := 0 // known once the installer has picked what this platform needs
	report := func(detail string) {
		s.progress(Progress{Step: StepInstall, Packages: count, Detail: detail})
	}
	report("")
	c := inst.install(dir, list)
	c.Dir = dir
	c.Line = func(line string) {
		var n int
		line = strings.TrimSpace(line)
		switch {
		case scan(line, "Resolved %d packages", &n), scan(line, "Installed %d packages", &n):
			count = n
			report("")
		case strings.HasPrefix(line, "Downloading "), strings.HasPrefix(line, "Downloaded "),
			strings.HasPrefix(line, "Collecting "):
			report(line)
		}
	}
	_, err := run(ctx, c)
	if kind := classify(err); err != nil && ctx.Err() == nil && !s.opts.Offline && (kind == otherFault || kind == hashFault) {
		// What the cache holds may have been spoilt; it is linked into environments, which
		// anyone may have written to.
		c.Env = append(slices.Clone(c.Env), "UV_NO_CACHE=1", "PIP_NO_CACHE_DIR=1")
		_, err = run(ctx, c)
	}
	if err != nil {
		return s.failed(ctx, "cannot install the Python packages", err)
	}
	return nil
}

func scan(line, format string, n *int) bool {
	got, err := fmt.Sscanf(line, format, n)
	return err == nil && got == 1
}

// tryScript imports what workers import, so that the compiled files are there from the start
// (where the environment is read-only they could never be written), and prints what is installed.
const tryScript = `
import sys, json, os, sysconfig, importlib, importlib.metadata as im
source, modules = sys.argv[1], sys.argv[2:]
site = sysconfig.get_paths()["platlib"]
for name in modules:
    importlib.import_module(name)
if "dspy" in modules:
    sys.path.insert(0, source)
    try:
        from dspex_worker import warm
        warm.preload([])
    except Exception:
        pass  # only to compile what it imports; a worker that cannot start says why itself
packages = {d.metadata["Name"].lower().replace("_", "-").replace(".", "-"): d.version for d in im.distributions(path=[site])}
sys.stdout.write("\n" + json.dumps({
    "site": os.path.relpath(site, sys.prefix).replace(os.sep, "/"),
    "packages": packages,
    "entries": sorted(e for e in os.listdir(site) if e != "__pycache__"),
}) + "\n")
`

// modules lists what must import in an environment of each lock.
func modules(lock string) []string {
	if lock == Local {
		return []string{"xllamacpp"}
	}
	return []string{"dspy", "orjson", "greenlet"}
}

// tryOut runs the new environment and returns its marker.
func (s *setup) tryOut(ctx context.Context, dir, source string) (*marker, error) {
	out, err := run(ctx, command{
		Path: venvPython(dir),
		Args: append([]string{"-c", tryScript, source}, modules(s.lockName)...),
		Env:  s.environ.forPython(),
		Dir:  dir,
	})
	if err != nil {
		return nil, s.failed(ctx, "the packages were installed but do not import", err)
	}
	var m marker
	if err := json.Unmarshal(lastLine(out.Stdout), &m); err != nil || m.Site == "" {
		return nil, status.Wrap(status.Unavailable, op, errors.Join(err, &runError{Path: venvPython(dir), Err: errors.New("unreadable answer"), Tail: out.Tail}),
			"the packages were installed but the new environment does not answer; try `dspex setup` again")
	}
	return &m, nil
}
