package main

import (
	"context"
	"errors"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/dspex/dspex"
)

// app is one execution of the command: what all subcommands share.
type app struct {
	std     streams
	environ []string

	json     bool     // --json
	verbose  bool     // --verbose
	config   string   // --config
	settings []string // --set
}

func (a *app) root() *cobra.Command {
	root := &cobra.Command{
		Use:   "dspex",
		Short: "Run real DSPy programs from Go",
		Long: "dspex runs DSPy programs on Python workers that it sets up and supervises itself.\n" +
			"Results go to standard output, everything else to standard error. The exit code is\n" +
			"0 for success, 1 when something could not be done, 2 when the command was wrong.",
		Example: "  dspex demo\n" +
			"  dspex run 'text -> name: str, age: int' text='Maria Lopez, 34, is a nurse.'",
		Version: dspex.Version,
		// Errors and their exit codes are this package's own affair.
		SilenceErrors:      true,
		SilenceUsage:       true,
		DisableSuggestions: true,
		Args:               cobra.ArbitraryArgs,
	}
	unknown := func(name string) error {
		var names []string
		for _, c := range root.Commands() {
			if c.IsAvailableCommand() {
				names = append(names, c.Name())
			}
		}
		return usagef("unknown command %q%s", name, suggest(name, names))
	}
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return unknown(args[0])
	}
	root.SetHelpCommand(&cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(_ *cobra.Command, args []string) error {
			// Find returns the command as far as it got, and the words that led nowhere.
			if c, rest, err := root.Find(args); err == nil && len(rest) == 0 {
				return c.Help()
			}
			return unknown(args[len(args)-1])
		},
	})
	flags := root.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print one JSON value on standard output, for failures too")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log what happens to standard error")
	flags.StringVar(&a.config, "config", "", "`FILE` of settings (default dspex.yaml where it exists)")
	flags.StringArrayVar(&a.settings, "set", nil, "`KEY=VALUE` of a setting, see dspex config; may be repeated")
	root.SetFlagErrorFunc(flagError)
	root.AddCommand(
		a.demoCommand(), a.runCommand(), a.setupCommand(), a.doctorCommand(),
		a.configCommand(), a.versionCommand(), a.soakCommand(),
	)
	return root
}

// noArguments refuses what a subcommand would not look at.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, not %q; see %s --help", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return nil
}

// flagError turns what pflag says into a usage error that names the nearest flag.
func flagError(cmd *cobra.Command, err error) error {
	if errors.Is(err, pflag.ErrHelp) {
		return err
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		name := unknown.GetSpecifiedName()
		var names []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, "--"+f.Name) })
		return usagef("unknown flag %q%s", "--"+strings.TrimLeft(name, "-"), suggest("--"+name, names))
	}
	return usagef("%s; see %s --help", err, cmd.CommandPath())
}

// logger writes to standard error with --verbose, and nowhere without.
func (a *app) logger() *slog.Logger {
	if !a.verbose {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(a.std.err, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

// withoutCancel is for stopping what was started: it must happen also when, and because,
// ctx has ended. What stops bounds itself.
func withoutCancel(ctx context.Context) context.Context { return context.WithoutCancel(ctx) }
