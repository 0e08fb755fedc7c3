package pyenv

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// helperVar makes the test binary act as another process that sets up Python; see ensureElsewhere.
const helperVar = "DSPEX_TEST_ENSURE"

func TestMain(m *testing.M) {
	if os.Getenv(helperVar) != "" {
		os.Exit(helper())
	}
	code := m.Run()
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// helper is the other process: it sets up Python in the folder it is given and prints each step
// and what came of it.
func helper() int {
	env, err := Ensure(context.Background(), Options{
		Dir:      os.Getenv(helperVar),
		Extra:    os.Getenv(helperVar + "_EXTRA"),
		Progress: func(p Progress) { fmt.Println("step", uint8(p.Step), p) },
	})
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	fmt.Println("built", env.Built, env.Python)
	return 0
}

// full reports whether faults are provoked in their full number.
func full() bool { return os.Getenv("DSPEX_FAULTS") == "full" }

// counted returns the number of repetitions: full/100 and at least least, or full.
func counted(n, least int) int {
	if full() {
		return n
	}
	return max(n/100, least)
}

// steps collects the steps of a build.
func steps(into *[]Step) func(Progress) {
	return func(p Progress) {
		if n := len(*into); n == 0 || (*into)[n-1] != p.Step {
			*into = append(*into, p.Step)
		}
	}
}

// environWith returns this process's environment with some variables set, and those that are
// given without a value removed.
func environWith(vars ...string) []string {
	drop := make(map[string]bool)
	var add []string
	for _, v := range vars {
		name, _, set := strings.Cut(v, "=")
		drop[name] = true
		if set {
			add = append(add, v)
		}
	}
	kept := newEnviron(nil).without(func(name string) bool { return drop[name] })
	return append(kept, add...)
}

// noIndex points pip and uv at an address where nothing answers.
var noIndex = []string{
	"PIP_INDEX_URL=http://127.0.0.1:9/simple", "UV_DEFAULT_INDEX=http://127.0.0.1:9/simple", "PIP_FIND_LINKS",
	"UV_HTTP_RETRIES=0", "PIP_RETRIES=0",
}

// scratchNames lists what is left of builds below a root.
func scratchNames(t testing.TB, root string) []string {
	t.Helper()
	var found []string
	for _, parent := range []string{"env", "src", "tools"} {
		names, err := filepath.Glob(filepath.Join(root, parent, "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range names {
			if strings.HasPrefix(filepath.Base(name), scratchPrefix) {
				found = append(found, name)
			}
		}
	}
	return found
}
