package pyenv

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

func TestFault_D4_ConcurrentProcessesBuildOnce(t *testing.T) {
	root := whole.get(t)
	built := 0
	for _, answer := range whole.answers {
		switch answer {
		case "built true":
			built++
		case "built false":
		default:
			t.Errorf("a process could not set up Python: %s", answer)
		}
	}
	if built != 1 || whole.steps != 1 {
		t.Errorf("%d processes built and %d installed packages, want 1 of %d", built, whole.steps, len(whole.answers))
	}
	if left := leftovers(t, root); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

func TestFault_D4_KilledBuildLeavesNothingHalfMade(t *testing.T) {
	environ := whole.environ(t)
	path := "PATH=" + newEnviron(environ).get("PATH")
	root := t.TempDir()
	steps := []Step{StepSource, StepCreate, StepInstall, StepVerify}
	for i := range counted(100, len(steps)) {
		step := steps[i%len(steps)]
		if err := os.RemoveAll(filepath.Join(root, "src")); err != nil {
			t.Fatal(err)
		}
		b := startBuilder(t, root, Local, path)
		if !b.until("step " + strconv.Itoa(int(step))) {
			t.Fatalf("the build did not come to %q", step)
		}
		b.kill()
		if r := Inspect(t.Context(), Options{Dir: root, Extra: Local, Environ: environ}); r.OK() {
			t.Fatalf("killed while %q, the environment is taken for good", step)
		}
	}
	env, err := Ensure(t.Context(), Options{Dir: root, Extra: Local, Environ: environ})
	if err != nil {
		t.Fatal(err)
	}
	if !env.Built {
		t.Error("the next build was not one")
	}
	if left := leftovers(t, root); len(left) > 0 {
		t.Errorf("the next build left what the killed ones had made: %v", left)
	}
}

func TestCanceledBuildStopsAndLeavesNothing(t *testing.T) {
	environ := whole.environ(t)
	for _, step := range []Step{StepSource, StepCreate, StepInstall, StepVerify} {
		t.Run(step.String(), func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			root := t.TempDir()
			_, err := Ensure(ctx, Options{Dir: root, Extra: Local, Environ: environ, Progress: func(p Progress) {
				if p.Step == step {
					cancel()
				}
			}})
			mustFail(t, err, status.Canceled)
			mustBeBare(t, root)
			if left := leftovers(t, root); len(left) > 0 {
				t.Errorf("left behind: %v", left)
			}
		})
	}
}

func TestWaitingForAnotherBuildEndsWithTheContext(t *testing.T) {
	s, err := newSetup(Options{Dir: t.TempDir(), Extra: Local})
	if err != nil {
		t.Fatal(err)
	}
	unlock, err := s.lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var seen []Step
	_, err = Ensure(ctx, Options{Dir: s.root, Extra: Local, Progress: func(p Progress) {
		seen = append(seen, p.Step)
		cancel()
	}})
	mustFail(t, err, status.Canceled)
	if diff := cmp.Diff([]Step{StepWait}, seen); diff != "" {
		t.Errorf("steps (-want +got):\n%s", diff)
	}
}

func TestBrokenEnvironmentIsFoundAndRebuilt(t *testing.T) {
	o := Options{Dir: t.TempDir(), Extra: Local, Environ: whole.environ(t)}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	site, err := filepath.Glob(filepath.Join(env.Dir, "lib", "python3*", "site-packages"))
	if err != nil || len(site) != 1 {
		t.Fatalf("site-packages: %v %v", site, err)
	}
	metadata, err := filepath.Glob(filepath.Join(site[0], "xllamacpp-*.dist-info", "METADATA"))
	if err != nil || len(metadata) != 1 {
		t.Fatalf("metadata: %v %v", metadata, err)
	}
	for _, c := range []struct {
		name  string
		spoil func() error
	}{
		{"a package is gone", func() error { return os.RemoveAll(filepath.Join(site[0], "xllamacpp")) }},
		{"a package's metadata is empty", func() error {
			// Not in place: the file may share its inode with the installer's cache.
			_ = os.Remove(metadata[0])
			return os.WriteFile(metadata[0], nil, 0o644)
		}},
		{"the marker is cut short", func() error { return os.Truncate(filepath.Join(env.Dir, envMarker), 20) }},
		{"the marker is gone", func() error { return os.Remove(filepath.Join(env.Dir, envMarker)) }},
		{"pyvenv.cfg is gone", func() error { return os.Remove(filepath.Join(env.Dir, "pyvenv.cfg")) }},
		{"the interpreter leads nowhere", func() error {
			_ = os.Remove(env.Python)
			return os.Symlink("/nowhere/python3", env.Python)
		}},
		{"a source differs", func() error {
			_ = os.Chmod(filepath.Join(env.Source, "dspex_worker", "wire.py"), 0o644)
			return os.Truncate(filepath.Join(env.Source, "dspex_worker", "wire.py"), 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if err := c.spoil(); err != nil {
				t.Fatal(err)
			}
			if r := Inspect(t.Context(), o); r.OK() {
				t.Fatal("it is taken for good")
			}
			if _, err := Ensure(t.Context(), o); err != nil {
				t.Fatal(err)
			}
			if r := Inspect(t.Context(), o); !r.OK() {
				t.Errorf("it is not rebuilt: %+v", r.Facts)
			}
		})
	}
}

func TestSpoiltInstallerCacheIsPassedBy(t *testing.T) {
	environ := whole.environ(t)
	uv := newEnviron(environ).lookPaths("uv")
	bin := t.TempDir()
	mustScript(t, filepath.Join(bin, "uv"), `if [ "$1" = pip ] && [ -z "$UV_NO_CACHE" ]; then echo "error: The wheel is invalid" >&2; exit 1; fi
unset UV_NO_CACHE
exec `+uv[len(uv)-1]+` "$@"`)
	root := t.TempDir()
	environ = append(environ, "PATH="+bin+string(os.PathListSeparator)+newEnviron(environ).get("PATH"))
	if _, err := Ensure(t.Context(), Options{Dir: root, Extra: Local, Environ: environ}); err != nil {
		t.Fatal(err)
	}
}

func TestOtherLocksAndOtherInterpretersAreOtherEnvironments(t *testing.T) {
	py := interpreter{Path: "/usr/bin/python3.11", Numbers: [3]int{3, 11, 2}, Full: "3.11.2", Platform: "linux-x86_64", ABI: "cpython-311-x86_64-linux-gnu"}
	worker, err := newSetup(Options{Dir: "/d"})
	if err != nil {
		t.Fatal(err)
	}
	local, err := newSetup(Options{Dir: "/d", Extra: Local})
	if err != nil {
		t.Fatal(err)
	}
	keys := map[string]bool{worker.key(&py): true, local.key(&py): true}
	for _, change := range []func(*interpreter){
		func(p *interpreter) { p.Path = "/usr/local/bin/python3.11" },
		func(p *interpreter) { p.Full = "3.11.3" },
		func(p *interpreter) { p.Platform = "linux-aarch64" },
		func(p *interpreter) { p.ABI = "cpython-311-x86_64-linux-musl" },
	} {
		other := py
		change(&other)
		keys[worker.key(&other)] = true
	}
	if len(keys) != 6 {
		t.Errorf("%d keys for 6 environments: %v", len(keys), keys)
	}
	if _, err := newSetup(Options{Dir: "/d", Extra: "lokal"}); status.CodeOf(err) != status.InvalidArgument {
		t.Errorf("an unknown extra: %v", err)
	}
}

// leftovers lists what unfinished builds left below a root.
func leftovers(t testing.TB, root string) []string {
	t.Helper()
	var found []string
	for _, parent := range []string{"env", "src", "tools"} {
		entries, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil {
			continue
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), scratchPrefix) {
				found = append(found, filepath.Join(parent, e.Name()))
			}
		}
	}
	return found
}
