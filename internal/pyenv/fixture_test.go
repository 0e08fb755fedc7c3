package pyenv

import (
	"bufio"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dspex/dspex/internal/status"
)

// full reports whether faults are provoked in their full number.
func full() bool { return os.Getenv("DSPEX_FAULTS") == "full" }

// counted returns n repetitions in the full form, else a hundredth of them, at least least.
func counted(n, least int) int {
	if full() {
		return n
	}
	return max(n/100, least)
}

// wholeRoot is a root with the workers' environment in it, built once for all tests, by several
// processes at once.
type wholeRoot struct {
	once    sync.Once
	dir     string
	answers []string // what each process printed last
	steps   int      // how many of them began to install
}

// whole is filled by the first test that needs it.
var whole wholeRoot

func (w *wholeRoot) get(t testing.TB) string {
	t.Helper()
	w.once.Do(func() { w.fill(t) })
	if w.dir == "" {
		t.Skip("the environment could not be built, as another test reports")
	}
	return w.dir
}

func (w *wholeRoot) fill(t testing.TB) {
	t.Helper()
	dir, err := os.MkdirTemp("", "dspex-pyenv-") //nolint:usetesting // it outlives the test, and other users look into it
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	w.dir = dir
	var builders []*builder
	for range counted(32, 4) {
		builders = append(builders, startBuilder(t, dir, ""))
	}
	for _, b := range builders {
		lines := b.wait()
		w.answers = append(w.answers, lines[len(lines)-1])
		if slices.Contains(lines, "step 5") {
			w.steps++
		}
	}
}

func (w *wholeRoot) remove() error {
	if w.dir == "" {
		return nil
	}
	return os.RemoveAll(w.dir)
}

// environ returns an environment in which uv is on PATH, so that a test need not fetch it.
func (w *wholeRoot) environ(t testing.TB, vars ...string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(w.get(t), "tools", "uv-*", "bin"))
	if err != nil || len(found) == 0 {
		return environWith(vars...)
	}
	return environWith(append([]string{"PATH=" + os.Getenv("PATH") + string(os.PathListSeparator) + found[0]}, vars...)...)
}

// builder is another process that sets up Python.
type builder struct {
	t     testing.TB
	cmd   *exec.Cmd
	out   *bufio.Scanner
	alive *os.File // at its end when the process and all that it started are gone
}

// startBuilder starts one in root, with an environment as environWith makes it.
func startBuilder(t testing.TB, root, extra string, vars ...string) *builder {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = environWith(append(vars, helperVar+"="+root, helperExtraVar+"="+extra)...)
	return start(t, cmd)
}

func start(t testing.TB, cmd *exec.Cmd) *builder {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	cmd.ExtraFiles = []*os.File{w}
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &builder{t: t, cmd: cmd, out: bufio.NewScanner(out), alive: r}
}

// until reads the process's lines up to one, and returns whether it came.
func (b *builder) until(line string) bool {
	for b.out.Scan() {
		if b.out.Text() == line {
			return true
		}
	}
	return false
}

// kill kills the process and waits until everything that it started is gone too.
func (b *builder) kill() {
	b.t.Helper()
	if err := b.cmd.Process.Kill(); err != nil {
		b.t.Error(err)
	}
	_ = b.cmd.Wait()
	b.gone()
}

// wait returns all lines of the process, once it and everything that it started are gone.
func (b *builder) wait() []string {
	b.t.Helper()
	var lines []string
	for b.out.Scan() {
		lines = append(lines, b.out.Text())
	}
	_ = b.cmd.Wait()
	b.gone()
	if len(lines) == 0 {
		b.t.Fatal("the process printed nothing")
	}
	return lines
}

func (b *builder) gone() {
	b.t.Helper()
	if _, err := b.alive.Read(make([]byte, 1)); err == nil {
		b.t.Error("unexpected output")
	}
	_ = b.alive.Close()
}

// environWith returns this process's environment with variables set (NAME=value) or removed
// (NAME alone).
func environWith(vars ...string) []string {
	named := make(map[string]string)
	for _, v := range vars {
		name, _, _ := strings.Cut(v, "=")
		named[name] = v
	}
	kept := newEnviron(nil).without(func(name string) bool { return named[name] != "" })
	for _, v := range named {
		if strings.Contains(v, "=") {
			kept = append(kept, v)
		}
	}
	return kept
}

// deadIndex points pip and uv at an address where nothing answers.
func deadIndex() []string {
	return []string{
		"PIP_INDEX_URL=http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX=http://127.0.0.1:9/simple", "UV_INDEX_URL",
		"PIP_FIND_LINKS", "UV_FIND_LINKS", "PIP_RETRIES=0", "UV_HTTP_RETRIES=0", "UV_NO_CACHE=1", "PIP_NO_CACHE_DIR=1",
	}
}

// mustBeBare fails the test if a root holds an environment, or a piece of one.
func mustBeBare(t testing.TB, root string) {
	t.Helper()
	for _, parent := range []string{"env", "tools"} {
		found, err := os.ReadDir(filepath.Join(root, parent))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range found {
			t.Errorf("%s is left in %s", e.Name(), parent)
		}
	}
}

// mustFail returns the message of an error that has to have a code and to be one line.
func mustFail(t testing.TB, err error, code status.Code, mention ...string) string {
	t.Helper()
	var e *status.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got %v, want an error of code %v", err, code)
	}
	if strings.Contains(e.Error(), "\n") {
		t.Errorf("the error is not one line: %q", e.Error())
	}
	for _, text := range mention {
		if !strings.Contains(e.Message, text) {
			t.Errorf("the error does not mention %q: %s", text, e.Message)
		}
	}
	return e.Message
}

// mustScript writes an executable shell script into a folder.
func mustScript(t testing.TB, path, body string) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}
