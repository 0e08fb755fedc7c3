package main

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

func (a *app) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config",
		Short: "Print the settings in force and where each came from",
		Long: "Settings come from flags (--set KEY=VALUE), the environment (DSPEX_KEY), a file\n" +
			"(--config FILE, or dspex.yaml in the working directory) and defaults; the first of\n" +
			"these that names a setting wins.",
		Args: noArguments,
		RunE: func(*cobra.Command, []string) error {
			settings, file, err := a.load()
			if err != nil {
				return err
			}
			explained := settings.Explain()
			if a.json {
				return a.printJSON(struct {
					File     string          `json:"file,omitempty"`
					Settings []dspex.Setting `json:"settings"`
				}{file, explained})
			}
			w := tabwriter.NewWriter(a.std.out, 0, 0, 2, ' ', 0)
			fmt.Fprintln(w, "SETTING\tVALUE\tFROM\tVARIABLE\tMEANING")
			for _, e := range explained {
				from := string(e.Origin)
				if e.Source != "" {
					from += " " + e.Source
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", e.Key, shown(e.Value), from, e.Env, e.Doc)
			}
			return w.Flush()
		},
	}
}

// shown writes a setting's value for a person.
func shown(value any) string {
	text := fmt.Sprint(value)
	if names, ok := value.([]string); ok {
		text = strings.Join(names, ",")
	}
	if text == "" {
		return "-"
	}
	return text
}
