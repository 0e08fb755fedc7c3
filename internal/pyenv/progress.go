package pyenv

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

// Step is a part of a build.
type Step uint8

// The steps, in the order in which they come; a step that is not needed is left out.
const (
	// StepWait means that another process is building.
	StepWait Step = iota + 1
	// StepSource means that the sources of dspex_worker are laid out and compiled.
	StepSource
	// StepTool means that the installer is fetched.
	StepTool
	// StepCreate means that the empty venv is made.
	StepCreate
	// StepInstall means that packages are fetched and installed.
	StepInstall
	// StepVerify means that what was installed is tried.
	StepVerify
	// StepDone means that the environment is ready.
	StepDone
)

// String returns what is being done, in a few words.
func (s Step) String() string {
	switch s {
	case StepWait:
		return "waiting"
	case StepSource:
		return "preparing the worker's sources"
	case StepTool:
		return "fetching uv"
	case StepCreate:
		return "creating the Python environment"
	case StepInstall:
		return "installing packages"
	case StepVerify:
		return "verifying"
	case StepDone:
		return "Python environment ready"
	default:
		return fmt.Sprintf("step %d", uint8(s))
	}
}

// Progress is one event of a build.
type Progress struct {
	// Step is what is being done. The same step may come again with another Detail.
	Step Step
	// Detail says more, such as the package that is being fetched. It may be empty.
	Detail string
	// Packages is how many packages are installed, in StepInstall; zero while not yet known.
	Packages int
	// Extra is the extra that is being built, as in [Options.Extra].
	Extra string
	// Elapsed is the time since the call began.
	Elapsed time.Duration
}

// String returns the event as a line.
func (p Progress) String() string {
	text := p.Step.String()
	if p.Step == StepInstall && p.Packages > 0 {
		text = fmt.Sprintf("installing %d packages", p.Packages)
	}
	if p.Extra != "" && p.Step != StepWait {
		text += " (" + p.Extra + ")"
	}
	if p.Detail != "" {
		text += ": " + p.Detail
	}
	return text
}

// Display writes a build's progress for a person: on a terminal as one line that is drawn over,
// else as one line for each step. Use its Show as [Options.Progress]. It is safe for concurrent
// use.
type Display struct {
	mu       sync.Mutex // guards what follows
	w        io.Writer
	terminal bool
	width    func() int
	last     Step
	extra    string
	drawn    bool
}

// NewDisplay returns a Display that writes to w.
func NewDisplay(w io.Writer) *Display {
	d := &Display{w: w}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		d.terminal = true
		d.width = func() int {
			if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > 0 {
				return width
			}
			return 80
		}
	}
	return d
}

// Show writes an event.
func (d *Display) Show(p Progress) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.terminal {
		d.draw(p)
		return
	}
	if p.Step == d.last && p.Extra == d.extra {
		return
	}
	d.last, d.extra = p.Step, p.Extra
	fmt.Fprintf(d.w, "dspex: %s%s\n", p, took(p))
}

func (d *Display) draw(p Progress) {
	line := []rune("dspex: " + p.String() + took(p))
	if p.Step != StepDone {
		if limit := d.width() - 1; len(line) > limit {
			line = append(line[:max(limit-1, 0)], '…')
		}
	}
	fmt.Fprintf(d.w, "\r\x1b[2K%s", string(line))
	d.drawn = true
	if p.Step == StepDone {
		fmt.Fprintln(d.w)
		d.drawn = false
	}
}

// Close removes a line that a build which failed left on the terminal.
func (d *Display) Close() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.drawn {
		fmt.Fprint(d.w, "\r\x1b[2K")
		d.drawn = false
	}
}

func took(p Progress) string {
	if p.Step != StepDone {
		return ""
	}
	return fmt.Sprintf(" (%.1f s)", p.Elapsed.Seconds())
}
