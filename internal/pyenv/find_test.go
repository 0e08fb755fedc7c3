package pyenv

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

// fakePython writes a script that answers as a Python of that version would.
func fakePython(t testing.TB, path, version, rest string) string {
	t.Helper()
	numbers := strings.ReplaceAll(version, ".", ",")
	return mustScript(t, path, `echo '{"numbers":[`+numbers+`],"full":"`+version+`"`+rest+`}'`)
}

func TestUnsuitablePythonsAreNamedWithTheirReasons(t *testing.T) {
	const cpython = `,"implementation":"cpython"`
	for _, c := range []struct {
		name    string
		make    func(dir string)
		mention []string
	}{
		{"an empty PATH", func(string) {}, []string{"none is on PATH", "install Python 3.10 to 3.14", "DSPEX_PYTHON"}},
		{"too old", func(dir string) {
			fakePython(t, filepath.Join(dir, "python3"), "3.8.10", "")
		}, []string{"python3 is Python 3.8.10, older than 3.10"}},
		{"too new", func(dir string) {
			fakePython(t, filepath.Join(dir, "python3"), "3.15.0", cpython)
		}, []string{"is Python 3.15.0, newer than 3.14"}},
		{"another implementation", func(dir string) {
			fakePython(t, filepath.Join(dir, "python3"), "3.11.0", `,"implementation":"pypy"`)
		}, []string{"is pypy, not CPython"}},
		{"free-threaded", func(dir string) {
			fakePython(t, filepath.Join(dir, "python3"), "3.13.0", cpython+`,"free":true`)
		}, []string{"free-threaded"}},
		{"failing and not Python", func(dir string) {
			mustScript(t, filepath.Join(dir, "python3"), `echo "version not installed" >&2; exit 127`)
			mustScript(t, filepath.Join(dir, "python3.12"), `echo hello`)
		}, []string{"python3 did not run: exit status 127 (version not installed)", "python3.12 is not Python"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := t.TempDir()
			c.make(bin)
			o := Options{Dir: t.TempDir(), Environ: []string{"PATH=" + bin}}
			_, err := Ensure(t.Context(), o)
			message := mustFail(t, err, status.Unavailable, c.mention...)
			mustAgree(t, o, message)
			mustBeBare(t, o.Dir)
		})
	}
}

// mustAgree fails the test if Inspect does not report what Ensure failed with.
func mustAgree(t testing.TB, o Options, message string) {
	t.Helper()
	for _, f := range Inspect(t.Context(), o).Facts {
		if f.State != OK && f.Detail+"; "+f.Remedy == message {
			return
		}
	}
	t.Errorf("Inspect does not say what Ensure says: %q", message)
}

func TestSuitablePythonIsFoundBehindUnsuitableOnes(t *testing.T) {
	first, second := t.TempDir(), t.TempDir()
	fakePython(t, filepath.Join(first, "python3"), "3.8.10", "")
	fakePython(t, filepath.Join(second, "python3.12"), "3.12.1", `,"implementation":"cpython","path":"/opt/python3.12"`)
	s, err := newSetup(Options{Dir: t.TempDir(), Environ: []string{"PATH=" + first + string(os.PathListSeparator) + second}})
	if err != nil {
		t.Fatal(err)
	}
	py, err := s.findPython(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if py.Path != "/opt/python3.12" {
		t.Errorf("found %s", py.Path)
	}
}

func TestInterpreterThatWasAskedForIsNeverReplaced(t *testing.T) {
	old := fakePython(t, filepath.Join(t.TempDir(), "python3"), "3.9.1", "")
	for _, c := range []struct{ name, interpreter, mention string }{
		{"too old", old, "is Python 3.9.1"},
		{"not there", "/nowhere/python3", "/nowhere/python3 was not found"},
		{"not on PATH", "python9", "python9 was not found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Ensure(t.Context(), Options{Dir: t.TempDir(), Interpreter: c.interpreter})
			mustFail(t, err, status.Unavailable, c.mention, "DSPEX_PYTHON")
		})
	}
}

func TestFault_D3_OwnEnvironmentIsCheckedAndTheFixIsNamed(t *testing.T) {
	bare := filepath.Join(t.TempDir(), "venv")
	base := basePython(t)
	if out, err := exec.Command(base, "-I", "-m", "venv", "--without-pip", bare).CombinedOutput(); err != nil {
		t.Fatalf("%v %s", err, out)
	}
	answer := func(packages, broken string) string {
		return fakePython(t, filepath.Join(t.TempDir(), "python"), "3.11.2",
			`,"implementation":"cpython","pip":true,"packages":{`+packages+`},"broken":{`+broken+`}`)
	}
	const good = `"orjson":"3.13.0","greenlet":"3.5.6"`
	for _, c := range []struct {
		name, path string
		mention    []string
	}{
		{"nothing in it, without pip", venvPython(bare), []string{"dspy is missing, orjson is missing, greenlet is missing", "uv pip install --python " + venvPython(bare), `"dspy>=3.4,<3.5"`}},
		{"one missing", answer(`"dspy":"3.4.1","orjson":"3.13.0"`, ""), []string{"cannot run workers: greenlet is missing; run: ", `-m pip install "dspy>=3.4,<3.5" orjson greenlet`}},
		{"dspy too old", answer(`"dspy":"3.3.9",`+good, ""), []string{"dspy is 3.3.9, not 3.4.x"}},
		{"dspy too new", answer(`"dspy":"3.40.0",`+good, ""), []string{"dspy is 3.40.0, not 3.4.x"}},
		{"one that does not import", answer(`"dspy":"3.4.1",`+good, `"greenlet":"ImportError: wrong build"`), []string{"greenlet 3.5.6 does not import (ImportError: wrong build)"}},
		{"Python too old", fakePython(t, filepath.Join(t.TempDir(), "python"), "3.8.1", ""), []string{"is Python 3.8.1, older than 3.10"}},
		{"not Python", mustScript(t, filepath.Join(t.TempDir(), "python"), "echo hello"), []string{"does not answer like Python"}},
		{"failing", mustScript(t, filepath.Join(t.TempDir(), "python"), "echo broken >&2; exit 3"), []string{"exit status 3 (broken)"}},
		{"not there", "/nowhere/bin/python", []string{"/nowhere/bin/python, was not found", "Config.Python.Path"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := Options{Dir: t.TempDir(), Path: c.path}
			_, err := Ensure(t.Context(), o)
			mustAgree(t, o, mustFail(t, err, status.Unavailable, c.mention...))
			mustBeBare(t, o.Dir)
		})
	}
}

func TestOwnEnvironmentThatFitsIsUsedAsItIs(t *testing.T) {
	built, err := Ensure(t.Context(), Options{Dir: whole.get(t)})
	if err != nil {
		t.Fatal(err)
	}
	o := Options{Dir: t.TempDir(), Path: built.Python}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	want := &Env{
		Python: built.Python, Source: filepath.Join(o.Dir, "src", filepath.Base(built.Source)), Root: o.Dir,
		Interpreter: built.Interpreter, Version: built.Version, Dspy: built.Dspy, Own: true, Elapsed: env.Elapsed,
		Packages: map[string]string{"dspy": built.Dspy, "orjson": built.Packages["orjson"], "greenlet": built.Packages["greenlet"]},
	}
	if diff := cmp.Diff(want, env); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	if r := Inspect(t.Context(), o); !r.OK() || r.Env == nil {
		t.Errorf("Inspect disagrees: %+v", r)
	}
	mustBeBare(t, o.Dir)
}

// basePython returns the real interpreter that the tests build with.
func basePython(t testing.TB) string {
	t.Helper()
	s, err := newSetup(Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	py, err := s.findPython(t.Context())
	if err != nil {
		t.Skip(err)
	}
	return py.Path
}
