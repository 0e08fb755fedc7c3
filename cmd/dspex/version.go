package main

import (
	"fmt"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/dspex/dspex"
)

// versionJSON is what `dspex version --json` prints.
type versionJSON struct {
	Version  string `json:"version"`
	Revision string `json:"revision,omitempty"`
	Go       string `json:"go"`
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(*cobra.Command, []string) error {
			v := versionJSON{
				Version: dspex.Version, Revision: revision(),
				Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
			}
			if a.json {
				return a.printJSON(v)
			}
			line := "dspex " + v.Version
			if v.Revision != "" {
				line += " (" + v.Revision + ")"
			}
			fmt.Fprintf(a.std.out, "%s, %s %s/%s\n", line, v.Go, v.OS, v.Arch)
			return nil
		},
	}
}

// revision returns the commit that the binary was built from, where Go recorded it.
func revision() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			return s.Value
		}
	}
	return ""
}
