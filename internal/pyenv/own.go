package pyenv

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/dspex/dspex/internal/status"
)

// ownScript reports what an environment of the user's own holds. orjson and greenlet are really
// imported, as a build for another Python shows only then; dspy is not, for it takes seconds.
const ownScript = `
import sys
sys.path[:] = [p for p in sys.path if p not in ("", ".")]
import json, os
v = sys.version_info
r = {"numbers": list(v[:3]), "full": sys.version.split()[0], "packages": {}, "broken": {}}
if v[0] == 3 and v[1] >= 10:
    import importlib, importlib.metadata, importlib.util, sysconfig
    r["path"] = os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)
    r["implementation"] = sys.implementation.name
    r["platform"] = sysconfig.get_platform()
    r["abi"] = sysconfig.get_config_var("SOABI") or ""
    r["bytecode"] = sys.implementation.cache_tag + "-" + importlib.util.MAGIC_NUMBER.hex()
    r["free"] = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
    r["pip"] = importlib.util.find_spec("pip") is not None
    for name in ("dspy", "orjson", "greenlet"):
        try:
            r["packages"][name] = importlib.metadata.version(name)
            if name == "dspy":
                if importlib.util.find_spec(name) is None:
                    raise ImportError("no module named dspy")
            else:
                importlib.import_module(name)
        except importlib.metadata.PackageNotFoundError:
            pass
        except Exception as e:
            r["broken"][name] = "%s: %s" % (type(e).__name__, e)
sys.stdout.write("\n" + json.dumps(r) + "\n")
`

// ownReport is what the script prints.
type ownReport struct {
	interpreter
	Packages map[string]string `json:"packages"`
	Broken   map[string]string `json:"broken"`
	Pip      bool              `json:"pip"`
}

// checkOwn runs the user's own Python once and returns what it holds, or why it will not do.
func (s *setup) checkOwn(ctx context.Context) (string, *ownReport, error) {
	path, err := s.environ.lookPath(s.opts.Path)
	if err != nil {
		return "", nil, status.Wrap(status.Unavailable, op, err,
			"the Python of your own environment, %s, was not found; correct Config.Python.Path, or leave it empty to have one built", s.opts.Path)
	}
	probing, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := run(probing, command{Path: path, Args: []string{"-c", ownScript}, Env: s.environ.forPython()})
	if err != nil {
		if ctx.Err() != nil {
			return "", nil, ctx.Err()
		}
		return "", nil, status.Wrap(status.Unavailable, op, err,
			"the Python of your own environment, %s, %s; correct Config.Python.Path, or leave it empty to have one built", path, reasonOf(err))
	}
	var r ownReport
	if err := json.Unmarshal(lastLine(out.Stdout), &r); err != nil {
		return "", nil, status.Wrap(status.Unavailable, op, err,
			"%s does not answer like Python; correct Config.Python.Path, or leave it empty to have one built", path)
	}
	return path, &r, r.judge(path)
}

// judge returns nil if workers can run in the environment, else what is wrong and the command
// that puts it right.
func (r *ownReport) judge(path string) error {
	if why := r.unsuitable(); why != "" {
		return status.New(status.Unavailable, op,
			"the Python of your own environment, %s, %s; make the environment with Python 3.%d to 3.%d", path, why, minMinor, maxMinor)
	}
	var wrong []string
	for _, name := range []string{"dspy", "orjson", "greenlet"} {
		version, ok := r.Packages[name]
		switch {
		case !ok:
			wrong = append(wrong, name+" is missing")
		case r.Broken[name] != "":
			wrong = append(wrong, fmt.Sprintf("%s %s does not import (%s)", name, version, r.Broken[name]))
		case name == "dspy" && !dspyFits(version):
			wrong = append(wrong, fmt.Sprintf("dspy is %s, not 3.4.x", version))
		}
	}
	if len(wrong) == 0 {
		return nil
	}
	pip := path + " -m pip install"
	if !r.Pip {
		pip = "uv pip install --python " + path
	}
	return status.New(status.Unavailable, op, `your own environment at %s cannot run workers: %s; run: %s "dspy>=3.4,<3.5" orjson greenlet`,
		path, strings.Join(wrong, ", "), pip)
}

// dspyFits reports whether a version is in the range that workers are written for.
func dspyFits(version string) bool {
	return version == "3.4" || strings.HasPrefix(version, "3.4.") || strings.HasPrefix(version, "3.4+")
}

// ensureOwn checks the user's own environment and lays out the sources for it.
func (s *setup) ensureOwn(ctx context.Context) (*Env, error) {
	if s.opts.Extra != "" {
		return nil, status.New(status.InvalidArgument, op, "an extra is never part of an environment of one's own")
	}
	path, r, err := s.checkOwn(ctx)
	if err != nil {
		return nil, err
	}
	source, err := s.verifySource(&r.interpreter)
	if err != nil || s.opts.Rebuild {
		if source, err = s.layOut(ctx, &r.interpreter, path); err != nil {
			return nil, err
		}
	}
	return &Env{
		Python: path, Source: source, Root: s.root, Interpreter: r.Path,
		Version: r.Version(), Dspy: r.Packages["dspy"], Packages: r.Packages, Own: true,
	}, nil
}

// layOut lays out the sources for an environment that is not built here.
func (s *setup) layOut(ctx context.Context, py *interpreter, path string) (string, error) {
	unlock, err := s.lock(ctx)
	if err != nil {
		return "", err
	}
	defer unlock()
	s.removeLeftovers()
	compiler := *py
	compiler.Path = path
	return s.ensureSource(ctx, &compiler, s.opts.Rebuild)
}
