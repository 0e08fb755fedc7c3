package pyenv

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func build() []Progress {
	return []Progress{
		{Step: StepCreate, Detail: "Python 3.11.2 from /usr/bin/python3.11"},
		{Step: StepInstall, Packages: 70},
		{Step: StepInstall, Packages: 67, Detail: "Downloading dspy (1.2MiB)"},
		{Step: StepVerify},
		{Step: StepDone, Detail: "/cache/env/key", Elapsed: 3400 * time.Millisecond},
	}
}

func TestProgressIsALineForEachStepWhereThereIsNoTerminal(t *testing.T) {
	var out bytes.Buffer
	d := NewDisplay(&out)
	for _, p := range build() {
		d.Show(p)
	}
	d.Close()
	want := `dspex: creating the Python environment: Python 3.11.2 from /usr/bin/python3.11
dspex: installing 70 packages
dspex: verifying
dspex: Python environment ready: /cache/env/key (3.4 s)
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("output (-want +got):\n%s", diff)
	}
}

func TestProgressIsOneLineOnATerminalAndNeverWraps(t *testing.T) {
	var out bytes.Buffer
	d := NewDisplay(&out)
	d.terminal, d.width = true, func() int { return 30 }
	for _, p := range build() {
		d.Show(p)
	}
	d.Close()
	lines := strings.Split(strings.TrimPrefix(out.String(), "\r\x1b[2K"), "\r\x1b[2K")
	want := []string{
		"dspex: creating the Python e…",
		"dspex: installing 70 packages",
		"dspex: installing 67 package…",
		"dspex: verifying",
		"dspex: Python environment ready: /cache/env/key (3.4 s)\n",
	}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestDisplayOfABuildThatFailedLeavesACleanLine(t *testing.T) {
	var out bytes.Buffer
	d := NewDisplay(&out)
	d.terminal, d.width = true, func() int { return 80 }
	d.Show(Progress{Step: StepVerify})
	d.Close()
	if !strings.HasSuffix(out.String(), "\r\x1b[2K") {
		t.Errorf("output %q", out.String())
	}
}
