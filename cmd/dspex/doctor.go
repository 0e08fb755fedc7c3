package main

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/process"
	"github.com/dspex/dspex/internal/pyenv"
)

// The states of a check, beside those of pyenv.
const (
	// stateLimited means that it works, in a lesser way.
	stateLimited = "limited"
	// stateUnknown means that it could not be looked at, because of what is broken above.
	stateUnknown = "unknown"
)

// checkJSON is one line of what doctor found.
type checkJSON struct {
	Name   string `json:"name"`
	State  string `json:"state"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
	// Needed is true when nothing works without it.
	Needed bool `json:"needed"`
}

// doctorJSON is what `dspex doctor --json` prints.
type doctorJSON struct {
	OK     bool        `json:"ok"`
	Checks []checkJSON `json:"checks"`
}

func (a *app) doctorCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "doctor",
		Short: "Check what this machine has, and say what to do about the rest",
		Long: "doctor looks at Python, its environment, the versions in it, whether workers start and how,\n" +
			"whether the kernel ends them with their host, and the local model. It starts a worker and the\n" +
			"model for a moment where they are set up, and builds and fetches nothing. The exit code is 1\n" +
			"when something that everything needs is missing or broken.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			settings, _, err := a.load()
			if err != nil {
				return err
			}
			return a.doctor(cmd.Context(), opening{settings: settings, logger: a.logger()})
		},
	}
}

func (a *app) doctor(ctx context.Context, o opening) error {
	var found doctorJSON
	found.Checks = append(found.Checks, checkPlatform())
	report := pyenv.Inspect(ctx, environment(o))
	for _, f := range report.Facts {
		found.Checks = append(found.Checks, fromFact(f, true))
	}
	found.Checks = append(found.Checks, checkWorkers(ctx, o, report), checkLifeline(ctx, report), checkLocal(ctx, o))
	if err := ctx.Err(); err != nil {
		return err
	}
	found.OK = true
	for _, c := range found.Checks {
		if c.Needed && c.State != string(pyenv.OK) && c.State != stateLimited {
			found.OK = false
		}
	}
	if a.json {
		if err := a.printJSON(found); err != nil {
			return err
		}
	} else {
		a.printChecks(found.Checks)
	}
	if !found.OK {
		return reported{errors.New("something that is needed does not work")}
	}
	return nil
}

func (a *app) printChecks(checks []checkJSON) {
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	for _, c := range checks {
		fmt.Fprintf(a.std.out, "%-*s  %-8s %s\n", width, c.Name, c.State, c.Detail)
		if c.Remedy != "" {
			fmt.Fprintf(a.std.out, "%-*s  %-8s → %s\n", width, "", "", c.Remedy)
		}
	}
}

func fromFact(f pyenv.Fact, needed bool) checkJSON {
	return checkJSON{Name: f.Name, State: string(f.State), Detail: f.Detail, Remedy: f.Remedy, Needed: needed}
}

func checkPlatform() checkJSON {
	c := checkJSON{Name: "platform", State: string(pyenv.OK), Detail: runtime.GOOS + "/" + runtime.GOARCH, Needed: true}
	switch runtime.GOOS {
	case "linux":
	case "windows":
		c.State = string(pyenv.Broken)
		c.Detail += ": workers do not run here"
		c.Remedy = "use Linux, for instance in WSL or a container"
	default:
		c.State = stateLimited
		c.Detail += ": workers are started one by one and watch for their host's end; experimental"
		c.Remedy = "use Linux in production"
	}
	return c
}

// checkWorkers opens a Runtime with one worker, as a program would.
func checkWorkers(ctx context.Context, o opening, report pyenv.Report) checkJSON {
	c := checkJSON{Name: "workers", Needed: true}
	if report.Env == nil {
		c.State, c.Detail = stateUnknown, "not tried without an environment"
		return c
	}
	one := o.settings
	one.Min, one.Max, one.Lazy = 1, 1, false
	start := time.Now()
	rt, err := dspex.Open(ctx, dspex.Config{Settings: one, Logger: o.logger})
	if err != nil {
		c.State, c.Detail = string(pyenv.Broken), brief(err)
		c.Remedy = "run dspex doctor --verbose for what the worker printed"
		return c
	}
	opened := time.Since(start)
	stats := rt.Stats()
	if err := rt.Close(withoutCancel(ctx)); err != nil {
		c.State, c.Detail = string(pyenv.Broken), brief(err)
		c.Remedy = "report this: closing an idle Runtime must not fail"
		return c
	}
	c.State, c.Detail = string(pyenv.OK), fmt.Sprintf("a worker answered %s after the start (%s)", took(opened), stats.Mode)
	if stats.Mode != string(process.Fork) {
		c.State = stateLimited
		c.Remedy = "each worker imports DSPy by itself: slower to start, more memory"
	}
	if len(stats.Notes) > 0 {
		c.Detail += "; " + strings.Join(stats.Notes, "; ")
	}
	return c
}

// checkLifeline proves with a throw-away child that the kernel ends workers with their host.
func checkLifeline(ctx context.Context, report pyenv.Report) checkJSON {
	c := checkJSON{Name: "lifeline"}
	if report.Env == nil {
		c.State, c.Detail = stateUnknown, "not tried without an environment"
		return c
	}
	s := process.ProveLifeline(ctx, process.Python{Path: report.Env.Python, Source: report.Env.Source})
	if s.Kernel {
		c.State, c.Detail = string(pyenv.OK), "the kernel kills workers when their host is gone"
		return c
	}
	c.State, c.Detail = stateLimited, "the kernel does not kill workers when their host is gone: "+s.Reason
	c.Remedy = "workers watch for their host's end themselves; one that is stuck in C code may outlive it"
	return c
}

// checkLocal starts the model of this machine where it is set up.
func checkLocal(ctx context.Context, o opening) checkJSON {
	options := environment(o)
	options.Path, options.Extra = "", pyenv.Local
	report := pyenv.Inspect(ctx, options)
	c := checkJSON{Name: "local model", State: string(pyenv.OK)}
	if report.Env == nil {
		for _, f := range report.Facts {
			if f.State != pyenv.OK {
				c.State, c.Detail, c.Remedy = string(f.State), f.Detail, f.Remedy
				return c
			}
		}
	}
	start := time.Now()
	_, closing, err := openLocal(o)(ctx)
	if err != nil {
		c.State, c.Detail = string(pyenv.Broken), brief(err)
		c.Remedy = "run dspex setup --rebuild, or use another model with --lm"
		return c
	}
	c.Detail = fmt.Sprintf("ready %s after the start", took(time.Since(start)))
	if err := closing(withoutCancel(ctx)); err != nil {
		c.State, c.Detail = string(pyenv.Broken), brief(err)
		c.Remedy = "report this: stopping an idle model must not fail"
	}
	return c
}

// brief returns an error's text in one line, without the name of this program.
func brief(err error) string {
	return strings.Join(strings.Fields(strings.TrimPrefix(err.Error(), "dspex: ")), " ")
}
