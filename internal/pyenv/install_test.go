package pyenv

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
	"github.com/dspex/dspex/python"
)

func TestNoNetworkIsAnErrorThatNamesTheWayOut(t *testing.T) {
	for _, c := range []struct {
		name    string
		environ []string
		offline bool
		mention []string
	}{
		{"uv is on the machine", whole.environ(t, deadIndex()...), false, []string{"could not reach the package index", "dspex setup"}},
		{"uv has to be fetched", environWith(append(deadIndex(), "PIP_RETRIES=1")...), false, []string{"could not reach the package index", "dspex setup"}},
		{"uv has to be fetched, and pip says little", environWith(deadIndex()...), false, []string{"the package index cannot be reached", "dspex setup"}},
		{"the network is forbidden", whole.environ(t, "UV_NO_CACHE=1"), true, []string{"network is not to be used", "dspex setup"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			root := t.TempDir()
			_, err := Ensure(t.Context(), Options{Dir: root, Extra: Local, Environ: c.environ, Offline: c.offline})
			mustFail(t, err, status.Unavailable, c.mention...)
			var f *runError
			if !errors.As(err, &f) || len(f.Tail) == 0 {
				t.Errorf("the installer's own words are lost: %v", err)
			}
			mustBeBare(t, root)
		})
	}
}

// slimPython makes a Python without ensurepip and pip, as Debian installs it: the real one, with
// its library linked file by file. It returns the folder to put on PATH.
func slimPython(t testing.TB) string {
	t.Helper()
	base := basePython(t)
	out, err := exec.Command(base, "-I", "-c", "import sysconfig; print(sysconfig.get_path('stdlib'))").Output()
	if err != nil {
		t.Fatal(err)
	}
	stdlib := strings.TrimSpace(string(out))
	home := t.TempDir()
	bin, lib := filepath.Join(home, "bin"), filepath.Join(home, "lib", filepath.Base(stdlib))
	for _, dir := range []string{bin, lib} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	entries, err := os.ReadDir(stdlib)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		switch e.Name() {
		case "ensurepip", "site-packages", "dist-packages", "__pycache__":
			continue
		}
		if err := os.Symlink(filepath.Join(stdlib, e.Name()), filepath.Join(lib, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	data, err := os.ReadFile(base)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bin, "python3"), data, 0o755); err != nil {
		t.Fatal(err)
	}
	if exec.Command(filepath.Join(bin, "python3"), "-I", "-c", "import json, venv").Run() != nil {
		t.Skip("this Python does not run from another place")
	}
	return bin
}

func TestPythonWithoutEnsurepipWorksWithWhateverInstallerThereIs(t *testing.T) {
	slim := slimPython(t)
	uv := newEnviron(whole.environ(t)).lookPaths("uv")
	for _, c := range []struct {
		name  string
		tools map[string]string
		fails bool
	}{
		{"uv on PATH", map[string]string{"uv": uv[len(uv)-1]}, false},
		{"another Python's pip on PATH", map[string]string{"pip3": basePython(t) + ` -m pip`}, false},
		{"nothing", nil, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			bin := t.TempDir()
			for name, target := range c.tools {
				mustScript(t, filepath.Join(bin, name), "exec "+target+` "$@"`)
			}
			o := Options{
				Dir: t.TempDir(), Extra: Local,
				Environ: environWith("PATH=" + slim + string(os.PathListSeparator) + bin),
			}
			env, err := Ensure(t.Context(), o)
			if c.fails {
				message := mustFail(t, err, status.Unavailable, "neither uv nor pip was found", "put uv on PATH", "python3-venv")
				mustAgree(t, o, message)
				mustBeBare(t, o.Dir)
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if !strings.HasPrefix(env.Interpreter, filepath.Dir(slim)) {
				t.Errorf("built with %s", env.Interpreter)
			}
		})
	}
}

func TestIndexWithoutUVIsServedByPip(t *testing.T) {
	base := basePython(t)
	if exec.Command(base, "-m", "pip", "--version").Run() != nil {
		t.Skip("this Python has no pip")
	}
	// A pip that finds no uv, as with an index that mirrors only some packages.
	bin := t.TempDir()
	mustScript(t, filepath.Join(bin, "python3"), `case "$*" in *"pip install"*--target*) echo "ERROR: No matching distribution found for uv" >&2; exit 1;; esac
exec `+base+` "$@"`)
	s, err := newSetup(Options{Dir: t.TempDir(), Extra: Local, Environ: environWith("PATH=" + bin)})
	if err != nil {
		t.Fatal(err)
	}
	py, err := s.findPython(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	py.Path = filepath.Join(bin, "python3")
	inst, err := s.installer(t.Context(), py, &tools{Venv: true, Pip: true})
	if err != nil {
		t.Fatal(err)
	}
	venv := filepath.Join(t.TempDir(), "venv")
	if err := s.createVenv(t.Context(), py, &tools{Venv: true}, inst, venv); err != nil {
		t.Fatal(err)
	}
	if s.lockText, err = python.Lock("uv"); err != nil { // the smallest lock
		t.Fatal(err)
	}
	if err := s.installLock(t.Context(), inst, venv); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(uvIn(venv)); inst.uv != "" || err != nil {
		t.Errorf("installed with %q: %v", inst.uv, err)
	}
}

func TestPipSettingsReachUV(t *testing.T) {
	links := t.TempDir()
	text := "global.index-url='https://one.example/simple'\n" +
		"install.index-url='https://two.example/simple'\n" +
		`global.extra-index-url='\nhttps://a.example\nhttps://b.example'` + "\n" +
		"global.trusted-host='one.example'\n" +
		":env:.cert='/etc/ca.pem'\n" +
		"global.cert='/other.pem'\n" +
		"global.find-links='/not/there " + links + "'\n" +
		"global.proxy='http://proxy.example:3128'\n"
	s := &setup{environ: newEnviron([]string{"HTTP_PROXY=http://mine.example"})}
	want := []string{
		"UV_DEFAULT_INDEX=https://two.example/simple",
		"UV_INDEX=https://a.example https://b.example",
		"UV_FIND_LINKS=" + links,
		"UV_INSECURE_HOST=one.example",
		"SSL_CERT_FILE=/etc/ca.pem",
		"HTTPS_PROXY=http://proxy.example:3128",
	}
	if diff := cmp.Diff(want, s.translate(parsePipConfig(text))); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
	s.environ = newEnviron([]string{"UV_INDEX_URL=https://mine.example", "UV_INDEX=x", "UV_FIND_LINKS=y", "SSL_CERT_FILE=z", "UV_INSECURE_HOST=h", "https_proxy=p", "http_proxy=p"})
	if got := s.translate(parsePipConfig(text)); len(got) != 0 {
		t.Errorf("the user's own settings of uv are overridden: %v", got)
	}
}

func TestInstallerRunsWithoutWhatWouldInstallElsewhere(t *testing.T) {
	e := newEnviron([]string{"PATH=/bin", "PIP_TARGET=/x", "VIRTUAL_ENV=/v", "PYTHONPATH=/p", "PIP_INDEX_URL=https://i.example", "UV_NO_BINARY=1", "HTTPS_PROXY=p"})
	want := []string{"PATH=/bin", "PIP_INDEX_URL=https://i.example", "HTTPS_PROXY=p", "A=b"}
	if diff := cmp.Diff(want, e.forInstaller("A=b")); diff != "" {
		t.Errorf("variables (-want +got):\n%s", diff)
	}
}

func TestInstallersFaultsAreToldApart(t *testing.T) {
	for _, c := range []struct {
		name, said string
		kind       fault
	}{
		{"uv, refused", "error: Request failed\n  cause: Connection refused (os error 111)", networkFault},
		{"pip, no name", "WARNING: Retrying … [Errno -3] Temporary failure in name resolution\nERROR: No matching distribution found for uv==1", networkFault},
		{"pip, nothing", "ERROR: Could not find a version that satisfies the requirement uv==1 (from versions: none)\nERROR: No matching distribution found for uv==1", absentFault},
		{"pip, no wheel", "ERROR: No matching distribution found for uv==1", wheelFault},
		{"uv, no wheel", "cause: Because x==1 has no usable wheels and you require x==1", wheelFault},
		{"pip, other file", "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", hashFault},
		{"uv, other file", "error: Hash mismatch for `x==1`", hashFault},
		{"full disk", "error: failed to write: No space left on device (os error 28)", diskFault},
		{"anything else", "error: panicked", otherFault},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := &runError{Path: "uv", Err: errors.New("exit status 1"), Tail: strings.Split(c.said, "\n")}
			if got := classify(err); got != c.kind {
				t.Errorf("kind %d, want %d", got, c.kind)
			}
		})
	}
}
