package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// commandVariable makes the test binary the command, for tests that need a process.
const commandVariable = "TEST_DSPEX_COMMAND"

func TestMain(m *testing.M) {
	if os.Getenv(commandVariable) != "" {
		main()
	}
	goleak.VerifyTestMain(m)
}

// result is what one command line came to.
type result struct {
	code   int
	stdout string
	stderr string
}

// dspexCommand executes a command line in this process, with environ over an environment
// without settings and keys.
func dspexCommand(tb testing.TB, stdin string, environ []string, args ...string) result {
	tb.Helper()
	var stdout, stderr bytes.Buffer
	code := execute(context.WithoutCancel(tb.Context()), args,
		streams{strings.NewReader(stdin), &stdout, &stderr}, append(plainEnviron(), environ...))
	return result{code, stdout.String(), stderr.String()}
}

// plainEnviron is this process's environment without what would change a command's meaning.
func plainEnviron() []string {
	var environ []string
	for _, entry := range os.Environ() {
		if !strings.HasPrefix(entry, "OPENAI_") {
			environ = append(environ, entry)
		}
	}
	return environ
}

// file writes a file for one test and returns its path.
func file(tb testing.TB, name, content string) string {
	tb.Helper()
	path := filepath.Join(tb.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		tb.Fatal(err)
	}
	return path
}

// failure reads what --json printed for a failure.
func failure(tb testing.TB, r result) (code, message string) {
	tb.Helper()
	var out struct {
		Error struct{ Code, Message string }
	}
	if err := json.Unmarshal([]byte(r.stdout), &out); err != nil {
		tb.Fatalf("standard output is %q: %v", r.stdout, err)
	}
	return out.Error.Code, out.Error.Message
}
