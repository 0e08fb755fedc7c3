package pyenv

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"os"
	"path/filepath"
)

// record is what one interpreter said of itself, with what would change if it were replaced.
type record struct {
	Interpreter interpreter `json:"interpreter"`
	Size        int64       `json:"size"`
	Modified    int64       `json:"modified"` // nanoseconds since 1970
}

func (s *setup) recordPath(real string) string {
	sum := sha256.Sum256([]byte(real))
	return filepath.Join(s.root, "interpreters", hex.EncodeToString(sum[:8])+".json")
}

// recall returns what is remembered of the interpreter at path, or nil: an interpreter that has
// not changed need not be run again to say what it is.
func (s *setup) recall(path string) *interpreter {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return nil
	}
	data, err := os.ReadFile(s.recordPath(real))
	if err != nil {
		return nil
	}
	var r record
	if json.Unmarshal(data, &r) != nil || r.Interpreter.Path != real {
		return nil
	}
	info, err := os.Stat(real)
	if err != nil || info.Size() != r.Size || info.ModTime().UnixNano() != r.Modified {
		return nil
	}
	return &r.Interpreter
}

// remember keeps what an interpreter said. Failing to is no fault: it is asked again.
func (s *setup) remember(py *interpreter) {
	info, err := os.Stat(py.Path)
	if err != nil || isScript(py.Path) {
		return
	}
	data, err := json.Marshal(record{Interpreter: *py, Size: info.Size(), Modified: info.ModTime().UnixNano()})
	if err != nil {
		return
	}
	_ = writeFile(s.recordPath(py.Path), data)
}

// writeFile puts a whole file in place, or none.
func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, data, 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
