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

func TestDamageIsFoundWithoutRunningAnything(t *testing.T) {
	o := Options{Dir: t.TempDir(), Extra: Local, Environ: whole.environ(t)}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	site := filepath.Join(env.Dir, "lib", "python"+env.Version[:strings.LastIndex(env.Version, ".")], "site-packages")
	metadata := filepath.Join(site, "xllamacpp-"+env.Packages["xllamacpp"]+".dist-info", "METADATA")
	for _, c := range []struct {
		name, path string
		leave      func(path string) error // what is left there instead; nil is nothing
	}{
		{"a package is gone", filepath.Join(site, "xllamacpp"), nil},
		{"a package's metadata is empty", metadata, func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		{"the marker is cut short", filepath.Join(env.Dir, envMarker), func(path string) error { return os.WriteFile(path, []byte(`{"key":"`), 0o644) }},
		{"the marker is gone", filepath.Join(env.Dir, envMarker), nil},
		{"pyvenv.cfg is gone", filepath.Join(env.Dir, "pyvenv.cfg"), nil},
		{"the interpreter is gone", env.Python, nil},
		{"the interpreter leads nowhere", env.Python, func(path string) error { return os.Symlink("/nowhere/python3", path) }},
		{"the interpreter is another", env.Python, func(path string) error { return os.Symlink("/bin/sh", path) }},
		{"a source differs", filepath.Join(env.Source, "dspex_worker", "wire.py"), func(path string) error { return os.WriteFile(path, nil, 0o644) }},
		{"the sources were not completed", filepath.Join(env.Source, sourceMarker), nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			// Never in place: files may share their inodes with the installer's cache.
			if err := os.Rename(c.path, c.path+".away"); err != nil {
				t.Fatal(err)
			}
			if c.leave != nil {
				if err := c.leave(c.path); err != nil {
					t.Fatal(err)
				}
			}
			if r := Inspect(t.Context(), o); r.OK() {
				t.Error("it is taken for good")
			}
			if err := os.RemoveAll(c.path); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(c.path+".away", c.path); err != nil {
				t.Fatal(err)
			}
		})
	}
	if r := Inspect(t.Context(), o); !r.OK() {
		t.Errorf("put right again, it is not taken for good: %+v", r.Facts)
	}
}

func TestBrokenEnvironmentIsRebuilt(t *testing.T) {
	o := Options{Dir: t.TempDir(), Extra: Local, Environ: whole.environ(t)}
	env, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{env.Dir, env.Source} {
		for _, marker := range []string{envMarker, sourceMarker} {
			_ = os.Remove(filepath.Join(dir, marker))
		}
	}
	again, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if !again.Built || again.Dir != env.Dir || again.Source != env.Source {
		t.Errorf("it was not rebuilt in its place: %+v", again)
	}
	if left := leftovers(t, o.Dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	o.Rebuild = true
	if again, err = Ensure(t.Context(), o); err != nil || !again.Built {
		t.Errorf("it was not rebuilt on demand: %+v %v", again, err)
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
