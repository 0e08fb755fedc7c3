package pyenv

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/dspex/dspex/internal/status"
)

// Workers need CPython in this range: DSPy sets the lower end, the wheels of the lock the upper.
const (
	minMinor = 10
	maxMinor = 14
)

// probeTimeout bounds one run of an interpreter that should answer in milliseconds; generous,
// for a cold disk.
const probeTimeout = 30 * time.Second

// interpreter is what is known of a Python that environments can be built with.
type interpreter struct {
	// Path is the interpreter behind symbolic links, shims and venvs.
	Path string `json:"path"`
	// Numbers is the version as numbers: 3, 11, 2.
	Numbers [3]int `json:"numbers"`
	// Full is the version with its suffix, as "3.14.0rc1".
	Full string `json:"full"`
	// Implementation is "cpython".
	Implementation string `json:"implementation"`
	// Platform is such as "linux-x86_64", ABI as "cpython-311-x86_64-linux-gnu": it names the
	// C library too.
	Platform string `json:"platform"`
	ABI      string `json:"abi"`
	// Bytecode identifies the format of compiled files: the cache tag and the magic number.
	Bytecode string `json:"bytecode"`
	// Free is true for a build without the global lock.
	Free bool `json:"free"`
}

// Version returns the version without a suffix.
func (p *interpreter) Version() string {
	return fmt.Sprintf("%d.%d.%d", p.Numbers[0], p.Numbers[1], p.Numbers[2])
}

// unsuitable returns why environments cannot be built with p, or "".
func (p *interpreter) unsuitable() string {
	major, minor := p.Numbers[0], p.Numbers[1]
	switch {
	case major != 3 || minor < minMinor:
		return fmt.Sprintf("is Python %s, older than 3.%d", p.Version(), minMinor)
	case minor > maxMinor:
		return fmt.Sprintf("is Python %s, newer than 3.%d", p.Version(), maxMinor)
	case p.Implementation != "cpython":
		return "is " + p.Implementation + ", not CPython"
	case p.Free:
		return "is a free-threaded build, which the locked packages do not support"
	default:
		return ""
	}
}

// probeScript runs on any Python, however old, and prints one line of JSON. The folder it is run
// in must not be able to shadow the standard library, hence the first lines.
const probeScript = `
import sys
sys.path[:] = [p for p in sys.path if p not in ("", ".")]
import json, os
v = sys.version_info
r = {"numbers": list(v[:3]), "full": sys.version.split()[0]}
if v[0] == 3 and v[1] >= 10:
    import importlib.util, sysconfig
    exe = sys.executable
    base = getattr(sys, "_base_executable", None) or exe
    r["path"] = os.path.realpath(base)
    r["implementation"] = sys.implementation.name
    r["platform"] = sysconfig.get_platform()
    r["abi"] = sysconfig.get_config_var("SOABI") or sysconfig.get_config_var("EXT_SUFFIX") or ""
    r["bytecode"] = sys.implementation.cache_tag + "-" + importlib.util.MAGIC_NUMBER.hex()
    r["free"] = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
sys.stdout.write("\n" + json.dumps(r) + "\n")
`

// probe runs a candidate and returns what it says of itself.
func (s *setup) probe(ctx context.Context, path string) (*interpreter, error) {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	out, err := run(ctx, command{
		Path: path,
		// Not -I, which Python 2 does not know and would hide its version.
		Args: []string{"-E", "-s", "-S", "-c", probeScript},
		Env:  s.environ.forPython(),
	})
	if err != nil {
		return nil, err
	}
	var py interpreter
	if err := json.Unmarshal(lastLine(out.Stdout), &py); err != nil {
		return nil, errors.New("is not Python")
	}
	return &py, nil
}

func lastLine(b []byte) []byte {
	b = bytes.TrimSpace(b)
	return b[bytes.LastIndexByte(b, '\n')+1:]
}

// findPython returns the interpreter to build with, or an error that says what was looked at and
// why it would not do.
func (s *setup) findPython(ctx context.Context) (*interpreter, error) {
	candidates, missing := s.candidates()
	var reasons []string
	for _, path := range candidates {
		py, reason := s.consider(ctx, path)
		if reason == "" {
			return py, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		reasons = append(reasons, path+" "+reason)
	}
	if s.opts.Interpreter != "" {
		if missing != "" {
			reasons = append(reasons, missing)
		}
		return nil, status.New(status.Unavailable, op,
			"the Python that was asked for cannot be used: %s; name a Python 3.%d to 3.%d with DSPEX_PYTHON or Config.Python.Interpreter, or leave it empty to use the one on PATH",
			strings.Join(reasons, "; "), minMinor, maxMinor)
	}
	found := "none is on PATH"
	if len(reasons) > 0 {
		found = strings.Join(reasons, "; ")
	}
	return nil, status.New(status.Unavailable, op,
		"no suitable Python: %s; install Python 3.%d to 3.%d, or name one with DSPEX_PYTHON", found, minMinor, maxMinor)
}

// consider returns a candidate's interpreter, or why it will not do.
func (s *setup) consider(ctx context.Context, path string) (*interpreter, string) {
	py := s.recall(path)
	if py == nil {
		var err error
		if py, err = s.probe(ctx, path); err != nil {
			return nil, reasonOf(err)
		}
	}
	reason := py.unsuitable()
	return py, reason
}

func reasonOf(err error) string {
	var f *runError
	if !errors.As(err, &f) {
		return err.Error()
	}
	text := "did not run: " + short(f.Err)
	if line := f.lastLine(); line != "" {
		text += " (" + line + ")"
	}
	return text
}

// candidates lists the interpreters to try, best first, each once. missing says what was asked
// for and is not there.
func (s *setup) candidates() (paths []string, missing string) {
	if name := s.opts.Interpreter; name != "" {
		path, err := s.environ.lookPath(name)
		if err != nil {
			return nil, name + " was not found"
		}
		return []string{path}, ""
	}
	names := []string{"python3", "python3.13", "python3.12", "python3.11", "python3.14", "python3.10"}
	if runtime.GOOS == "windows" {
		names = append(names, "python")
	}
	seen := make(map[string]bool)
	for _, name := range names {
		for _, path := range s.environ.lookPaths(name) {
			// Two names of one file are one candidate, unless it acts by its name.
			id := path
			if real, err := filepath.EvalSymlinks(path); err == nil && !isScript(real) {
				id = real
			}
			if !seen[id] {
				seen[id] = true
				paths = append(paths, path)
			}
		}
	}
	return paths, ""
}

// isScript reports whether a file is a script: a shim, whose answer depends on more than itself.
func isScript(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return true
	}
	defer f.Close()
	var head [2]byte
	n, _ := f.Read(head[:])
	return string(head[:n]) == "#!"
}
