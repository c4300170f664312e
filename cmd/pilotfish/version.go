package main

import (
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/serve"
)

func buildInfo() serve.Build {
	return serve.Build{
		Version: version, Go: strings.TrimPrefix(runtime.Version(), "go"), Platform: runtime.GOOS + "/" + runtime.GOARCH,
	}
}

func newVersion() *cobra.Command {
	var out outputFlag
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  pilotfish version
  pilotfish version --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			b := buildInfo()
			if out.value != "text" {
				return writeData(cmd.OutOrStdout(), out.value, b)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "pilotfish %s (Go %s, %s)\n", b.Version, b.Go, b.Platform)
			return err
		},
	}
	out.add(cmd, "text", "json", "yaml")
	return cmd
}
