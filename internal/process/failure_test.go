//go:build unix

package process

import (
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/dspex/dspex/internal/status"
)

func TestAnExitIsToldInWords(t *testing.T) {
	for want, exit := range map[string]Exit{
		"exited with status 0":                {},
		"exited with status 3":                {Code: 3},
		"was killed by SIGSEGV":               {Code: -1, Signal: syscall.SIGSEGV},
		"was killed by SIGABRT (core dumped)": {Code: -1, Signal: syscall.SIGABRT, Core: true},
		"was killed by SIGKILL on request":    {Code: -1, Signal: syscall.SIGKILL, Killed: true},
		"ended, and its exit status was taken by another part of this program": {Code: -1, Unknown: true},
	} {
		if got := exit.String(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestTheExceptionIsReadOutOfTheTail(t *testing.T) {
	traceback := []string{
		"Traceback (most recent call last):",
		`  File "x.py", line 1, in <module>`,
		"    boom()",
	}
	for _, c := range []struct {
		name          string
		tail          []string
		kind, message string
		traceback     bool
	}{
		{"no traceback", []string{"a", "b", ""}, "process", "b", false},
		{"with a message", append(traceback, "a.b.FooError: it: failed", "after"), "a.b.FooError", "it: failed", true},
		{"without a message", append(traceback, "KeyboardInterrupt"), "KeyboardInterrupt", "", true},
		{"the last of two", append(append(traceback, "A: 1", ""), append(traceback, "B: 2")...), "B", "2", true},
		{"cut off", traceback, "process", "boom()", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			e := pythonError(c.tail)
			got := status.PythonError{Type: e.Type, Message: e.Message}
			if diff := cmp.Diff(status.PythonError{Type: c.kind, Message: c.message}, got); diff != "" {
				t.Errorf("exception (-want +got):\n%s", diff)
			}
			if strings.HasPrefix(e.Traceback, traceback[0]) != c.traceback {
				t.Errorf("traceback is %q", e.Traceback)
			}
		})
	}
}
