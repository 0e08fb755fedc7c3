package pyenv

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
)

// envMarker is written last into an environment. It says what was installed, so that a look at
// one folder's names tells whether it still is.
const envMarker = "dspex.json"

// marker is the content of the marker file.
type marker struct {
	Key         string            `json:"key"`
	Interpreter string            `json:"interpreter"`
	Version     string            `json:"version"`
	Site        string            `json:"site"`     // site-packages, relative to the environment
	Packages    map[string]string `json:"packages"` // normalised name → version
	Entries     []string          `json:"entries"`  // all names in site-packages
}

// venvPython returns the path of an environment's interpreter.
func venvPython(dir string) string {
	if runtime.GOOS == "windows" {
		return filepath.Join(dir, "Scripts", "python.exe")
	}
	return filepath.Join(dir, "bin", "python")
}

// errMissing means that an environment was never built.
var errMissing = errors.New("it has not been built")

// verifyEnv reads whether the environment for py is whole, without running anything: the marker
// is there and means this interpreter, the interpreter is in place, nothing that was installed
// is gone.
func (s *setup) verifyEnv(py *interpreter) (*marker, error) {
	dir := s.envDir(py)
	if _, err := os.Stat(dir); err != nil {
		return nil, errMissing
	}
	data, err := os.ReadFile(filepath.Join(dir, envMarker))
	if err != nil {
		return nil, fmt.Errorf("its build was not completed: %s is missing", envMarker)
	}
	var m marker
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%s cannot be read: %w", envMarker, err)
	}
	if m.Key != s.key(py) || m.Interpreter != py.Path || m.Version != py.Full {
		return nil, fmt.Errorf("it was built for Python %s at %s", m.Version, m.Interpreter)
	}
	cfg, err := os.ReadFile(filepath.Join(dir, "pyvenv.cfg"))
	if err != nil || !strings.Contains(string(cfg), "home") {
		return nil, errors.New("pyvenv.cfg is missing or broken")
	}
	if err := checkInterpreter(dir, py); err != nil {
		return nil, err
	}
	return &m, checkEntries(filepath.Join(dir, filepath.FromSlash(m.Site)), m.Entries)
}

// checkInterpreter finds a link that leads nowhere, or elsewhere.
func checkInterpreter(dir string, py *interpreter) error {
	path := venvPython(dir)
	info, err := os.Lstat(path)
	if err != nil {
		return errors.New("its interpreter is gone")
	}
	if info.Mode()&os.ModeSymlink == 0 {
		return nil
	}
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return errors.New("its interpreter leads nowhere")
	}
	if real != py.Path {
		return fmt.Errorf("its interpreter is %s", real)
	}
	return nil
}

// checkEntries finds packages that are gone, and metadata of the essential ones that is empty.
func checkEntries(site string, want []string) error {
	found, err := os.ReadDir(site)
	if err != nil {
		return errors.New("its packages are gone")
	}
	have := make(map[string]bool, len(found))
	for _, e := range found {
		have[e.Name()] = true
	}
	for _, name := range want {
		if !have[name] {
			return fmt.Errorf("%s is gone from its packages", name)
		}
		if strings.HasSuffix(name, ".dist-info") {
			info, err := os.Stat(filepath.Join(site, name, "METADATA"))
			if err != nil || info.Size() == 0 {
				return fmt.Errorf("%s is broken", name)
			}
		}
	}
	return nil
}
