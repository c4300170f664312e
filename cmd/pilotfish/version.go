package main

import (
	"encoding/json"
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
	var output string
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Example: `  pilotfish version
  pilotfish version --output json`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := buildInfo()
			switch output {
			case "text":
				_, err := fmt.Fprintf(cmd.OutOrStdout(), "pilotfish %s (Go %s, %s)\n", b.Version, b.Go, b.Platform)
				return err
			case "json":
				return json.NewEncoder(cmd.OutOrStdout()).Encode(b)
			default:
				return usagef("--output %q: want text or json", output)
			}
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}
