package pyenv

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

func TestWholeEnvironmentIsUsedOfflineWithoutAHome(t *testing.T) {
	root := whole.get(t)
	b := startBuilder(t, root, "", append(deadIndex(), "HOME", "XDG_CACHE_HOME")...)
	lines := b.wait()
	if diff := cmp.Diff([]string{"built false"}, lines); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestNoHomeIsAnErrorThatNamesTheWayOut(t *testing.T) {
	t.Setenv("HOME", "")
	t.Setenv("XDG_CACHE_HOME", "")
	_, err := Ensure(t.Context(), Options{})
	mustFail(t, err, status.Unavailable, "Config.Python.Dir", "DSPEX_PYTHON_DIR", "dspex setup --dir")
}

func TestFolderThatCannotBeWrittenIsAnErrorThatNamesTheWayOut(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := Ensure(t.Context(), Options{Dir: filepath.Join(file, "root")})
	mustFail(t, err, status.Unavailable, file, "dspex setup --dir")
}

// fingerprint returns every path below a folder with its kind, size and time of change.
func fingerprint(t testing.TB, root string) map[string]string {
	t.Helper()
	found := make(map[string]string)
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		found[path] = info.Mode().String() + info.ModTime().String()
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestFault_D5_LookingAtAnEnvironmentChangesNothing(t *testing.T) {
	root := whole.get(t)
	before := fingerprint(t, root)
	o := Options{Dir: root, Progress: func(p Progress) { t.Errorf("something was done: %v", p) }}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r := Inspect(t.Context(), o); !r.OK() || r.Env == nil || r.Env.Key != env.Key {
		t.Errorf("Inspect disagrees: %+v", r)
	}
	if diff := cmp.Diff(before, fingerprint(t, root)); diff != "" {
		t.Errorf("files changed (-before +after):\n%s", diff)
	}
	missing := filepath.Join(t.TempDir(), "none")
	if r := Inspect(t.Context(), Options{Dir: missing}); r.OK() {
		t.Error("Inspect finds an environment in a folder that is not there")
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("Inspect made the folder that it looked at")
	}
}

func TestReadOnlyRootServesAnotherUserOffline(t *testing.T) {
	root := whole.get(t)
	python := findReadable(t)
	o := Options{Dir: root, Interpreter: python}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	setWritable(t, root, false)
	t.Cleanup(func() { setWritable(t, root, true) })

	cmd := exec.Command(readableSelf(t))
	cmd.Dir = "/"
	cmd.Env = environWith(append(deadIndex(), "HOME", "XDG_CACHE_HOME", helperVar+"="+root, helperPathVar+"="+python, helperTryVar+"=1")...)
	becomeNobody(cmd)
	if diff := cmp.Diff([]string{"built false"}, start(t, cmd).wait()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}

	// With something missing, it says so instead of building half of it.
	if err := os.Rename(env.Source, env.Source+".away"); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := os.Rename(env.Source+".away", env.Source); err != nil {
			t.Error(err)
		}
	}()
	if os.Getuid() != 0 {
		_, err = Ensure(t.Context(), o)
		mustFail(t, err, status.Unavailable, "dspex setup --dir")
	}
}

// findReadable returns a Python that every user may run, or skips the test.
func findReadable(t testing.TB) string {
	t.Helper()
	for _, path := range []string{"/usr/bin/python3", "/usr/local/bin/python3"} {
		if out, err := exec.Command(path, "-c", "import sys, venv; print(sys.version_info >= (3, 10))").Output(); err == nil && string(out) == "True\n" {
			return path
		}
	}
	t.Skip("no Python that every user may run")
	return ""
}

// readableSelf copies the test binary to where every user may run it.
func readableSelf(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dspex-self-") //nolint:usetesting // other users cannot enter t.TempDir
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	data, err := os.ReadFile(os.Args[0])
	if err != nil {
		t.Fatal(err)
	}
	self := filepath.Join(dir, "self")
	if err := os.WriteFile(self, data, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return self
}

// setWritable gives or takes the right to change any folder below root. Files are left: they may
// share their inodes with the installer's cache.
func setWritable(t testing.TB, root string, on bool) {
	t.Helper()
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		mode := info.Mode().Perm() &^ 0o222
		if on {
			mode |= 0o200
		}
		return os.Chmod(path, mode)
	})
	if err != nil {
		t.Error(err)
	}
}

func TestLookingTakesMilliseconds(t *testing.T) {
	o := Options{Dir: whole.get(t)}
	py, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	// Straight to the interpreter: a shim on PATH has to be run.
	o.Interpreter = py.Interpreter
	best := time.Hour
	for range 20 {
		env, err := Ensure(t.Context(), o)
		if err != nil {
			t.Fatal(err)
		}
		best = min(best, env.Elapsed)
	}
	t.Logf("looking takes %v", best)
	if best > 100*time.Millisecond { // ten times the promised bound
		t.Errorf("looking takes %v, want less than 10 ms", best)
	}
}
