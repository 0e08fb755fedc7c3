package dspex_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
)

// A built environment that has lost a file is built anew by the Runtime that meets it.
func TestFault_D3_DamagedEnvironmentIsBuiltAnew(t *testing.T) {
	t.Parallel()
	env, err := pyenv.Ensure(t.Context(), pyenv.Options{})
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, part := range []string{env.Dir, env.Source} {
		name, err := filepath.Rel(env.Root, part)
		if err != nil {
			t.Fatal(err)
		}
		link(t, part, filepath.Join(root, name))
	}
	files, err := filepath.Glob(filepath.Join(root, "env", "*", "lib", "python3*", "site-packages", "dspy", "predict", "predict.py"))
	if err != nil || len(files) != 1 {
		t.Fatalf("found %v, %v", files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	var log logs
	rt := open(t, dspex.Config{LM: echoing(), Logger: log.logger(), Settings: dspex.Settings{
		Max: 1, Python: dspex.PythonSettings{Dir: root},
	}})
	log.wait(t, "is built anew")
	if err := ask(t.Context(), rt, dspex.Predict[question, answer](""), "healed?"); err != nil {
		t.Error(err)
	}
}

// link makes a tree that shares its files with another.
func link(t *testing.T, from, to string) {
	t.Helper()
	err := filepath.WalkDir(from, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, name)
		switch {
		case entry.IsDir():
			return os.MkdirAll(target, 0o700)
		case entry.Type() == fs.ModeSymlink:
			pointsTo, err := os.Readlink(path)
			if err != nil {
				return err
			}
			return os.Symlink(pointsTo, target)
		default:
			return os.Link(path, target)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
}
