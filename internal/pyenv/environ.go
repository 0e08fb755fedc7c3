package pyenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// environ is the environment that things are looked up and run in.
type environ struct {
	vars []string
}

func newEnviron(vars []string) environ {
	if vars == nil {
		vars = os.Environ()
	}
	return environ{vars: vars}
}

// get returns the value of a variable; the last setting wins, as it does for a process.
func (e environ) get(name string) string {
	for _, setting := range slices.Backward(e.vars) {
		if k, v, ok := strings.Cut(setting, "="); ok && sameName(k, name) {
			return v
		}
	}
	return ""
}

func sameName(a, b string) bool {
	if runtime.GOOS == "windows" {
		return strings.EqualFold(a, b)
	}
	return a == b
}

// lookPaths returns every executable of that name on PATH, in order.
func (e environ) lookPaths(name string) []string {
	var found []string
	for _, dir := range filepath.SplitList(e.get("PATH")) {
		if !filepath.IsAbs(dir) {
			// A folder named relative to wherever this runs is not to be trusted.
			continue
		}
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			found = append(found, path)
		}
	}
	return found
}

// lookPath resolves a path, or a name on PATH, to an absolute path.
func (e environ) lookPath(name string) (string, error) {
	if filepath.Base(name) == name {
		if found := e.lookPaths(name); len(found) > 0 {
			return found[0], nil
		}
		return "", exec.ErrNotFound
	}
	path, err := exec.LookPath(name)
	if err != nil {
		return "", err
	}
	return filepath.Abs(path)
}

// forPython returns the variables without those that would change what an interpreter is or
// where it writes: what is asked is what it is, not what this shell makes of it.
func (e environ) forPython() []string {
	return e.without(func(name string) bool {
		return strings.HasPrefix(name, "PYTHON") || name == "__PYVENV_LAUNCHER__"
	})
}

// redirects are the settings of pip and uv that would put packages elsewhere, take others, or
// build them; where packages come from, and through what, stays the user's choice.
func redirects() []string {
	return []string{
		"VIRTUAL_ENV", "CONDA_PREFIX",
		"PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_PYTHON", "PIP_USER", "PIP_REQUIRE_VIRTUALENV",
		"PIP_NO_BINARY", "PIP_ONLY_BINARY", "PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT", "PIP_REQUIREMENT",
		"PIP_EDITABLE", "PIP_SRC", "PIP_DRY_RUN", "PIP_REPORT", "PIP_PLATFORM", "PIP_ABI", "PIP_IMPLEMENTATION",
		"PIP_PYTHON_VERSION", "PIP_REQUIRE_HASHES", "PIP_NO_DEPS", "PIP_LOG",
		"UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_PROJECT_ENVIRONMENT", "UV_NO_BINARY", "UV_NO_BINARY_PACKAGE",
		"UV_NO_BUILD", "UV_NO_BUILD_PACKAGE", "UV_CONSTRAINT", "UV_BUILD_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE",
		"UV_EXCLUDE_NEWER", "UV_REQUIRE_HASHES", "UV_NO_VERIFY_HASHES", "UV_VENV_SEED", "UV_VENV_CLEAR",
		"UV_COMPILE_BYTECODE", "UV_WORKING_DIRECTORY", "UV_WORKING_DIR", "UV_PROJECT", "UV_TORCH_BACKEND",
	}
}

// forInstaller returns the variables that an installer runs with.
func (e environ) forInstaller(extra ...string) []string {
	dropped := redirects()
	kept := e.without(func(name string) bool {
		if strings.HasPrefix(name, "PYTHON") || name == "__PYVENV_LAUNCHER__" {
			return true
		}
		return slices.Contains(dropped, name)
	})
	return append(kept, extra...)
}

func (e environ) without(drop func(name string) bool) []string {
	kept := make([]string, 0, len(e.vars))
	for _, v := range e.vars {
		name, _, _ := strings.Cut(v, "=")
		if runtime.GOOS == "windows" {
			name = strings.ToUpper(name)
		}
		if !drop(name) {
			kept = append(kept, v)
		}
	}
	return kept
}
