package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
	"github.com/dspex/dspex/internal/pyenv"
)

// setupJSON is what `dspex setup --json` prints.
type setupJSON struct {
	Environments []environmentJSON `json:"environments"`
}

type environmentJSON struct {
	Name    string `json:"name"`
	Python  string `json:"python"`
	Dir     string `json:"dir,omitempty"`
	Version string `json:"version"`
	Dspy    string `json:"dspy,omitempty"`
	Built   bool   `json:"built"`
	TookMS  int64  `json:"took_ms"`
}

func (a *app) setupCommand() *cobra.Command {
	var (
		dir     string
		noLocal bool
		rebuild bool
	)
	cmd := &cobra.Command{
		Use:   "setup",
		Short: "Build the Python environments that everything else needs",
		Long: "setup builds the environment of the workers and that of the local model, each from a\n" +
			"list of packages pinned by hash. It needs a Python of version 3.10 or later and, once,\n" +
			"the network. What is whole is left as it is. Other commands and programs set up what\n" +
			"they miss by themselves; use setup where that must happen earlier, as in an image.",
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var explicit []flagValue
			if cmd.Flags().Changed("dir") {
				explicit = append(explicit, flagValue{"--dir", "python.dir", dir})
			}
			settings, _, err := a.load(explicit...)
			if err != nil {
				return err
			}
			extras := []string{"", pyenv.Local}
			if noLocal {
				extras = extras[:1]
			}
			return a.setup(cmd, settings, extras, rebuild)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "`DIR` to build in (setting python.dir)")
	cmd.Flags().BoolVar(&noLocal, "no-local", false, "leave the local model out")
	cmd.Flags().BoolVar(&rebuild, "rebuild", false, "build anew what is there")
	return cmd
}

func (a *app) setup(cmd *cobra.Command, settings dspex.Settings, extras []string, rebuild bool) error {
	display := pyenv.NewDisplay(a.std.err)
	defer display.Close()
	var done setupJSON
	for _, extra := range extras {
		options := environment(opening{settings: settings, progress: display.Show})
		options.Extra, options.Rebuild = extra, rebuild
		if extra != "" {
			// An environment of the user's own is for workers.
			options.Path = ""
		}
		env, err := pyenv.Ensure(cmd.Context(), options)
		if err != nil {
			return err
		}
		name := "worker"
		if extra != "" {
			name = extra
		}
		done.Environments = append(done.Environments, environmentJSON{
			Name: name, Python: env.Python, Dir: env.Dir, Version: env.Version, Dspy: env.Dspy,
			Built: env.Built, TookMS: env.Elapsed.Milliseconds(),
		})
	}
	if a.json {
		return a.printJSON(done)
	}
	for _, e := range done.Environments {
		what := "Python " + e.Version
		if e.Dspy != "" {
			what += ", DSPy " + e.Dspy
		}
		how := "found"
		if e.Built {
			how = "built"
		}
		fmt.Fprintf(a.std.out, "%-6s  %s  %s  (%s)\n", e.Name, how, e.Python, what)
	}
	return nil
}
