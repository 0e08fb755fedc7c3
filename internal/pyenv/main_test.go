package pyenv

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"go.uber.org/goleak"
)

// helperVar makes the test binary act as another process that sets up Python in the folder that
// it names; the other variables are its options.
const (
	helperVar      = "DSPEX_TEST_ENSURE"
	helperExtraVar = "DSPEX_TEST_ENSURE_EXTRA"
	helperPathVar  = "DSPEX_TEST_ENSURE_INTERPRETER"
	helperTryVar   = "DSPEX_TEST_ENSURE_TRY" // import DSPy and the worker's package too
)

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
	if err := whole.remove(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// helper is that other process: it prints each step as "step N", then "built true", "built false"
// or "failed …".
func helper() int {
	env, err := Ensure(context.Background(), Options{
		Dir:         os.Getenv(helperVar),
		Extra:       os.Getenv(helperExtraVar),
		Interpreter: os.Getenv(helperPathVar),
		Progress:    func(p Progress) { fmt.Println("step", uint8(p.Step)) },
	})
	if err != nil {
		fmt.Println("failed", err)
		return 1
	}
	if os.Getenv(helperTryVar) != "" {
		cmd := exec.Command(env.Python, "-c", "import sys; sys.path.insert(0, sys.argv[1]); import dspy, dspex_worker", env.Source)
		if out, err := cmd.CombinedOutput(); err != nil {
			fmt.Printf("failed %v %s\n", err, out)
			return 1
		}
	}
	fmt.Println("built", env.Built)
	return 0
}
