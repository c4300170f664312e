package main

import (
	"encoding/json"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
)

func newVersion() *cobra.Command {
	var output string
	var short bool
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			out, goVersion, platform := cmd.OutOrStdout(), strings.TrimPrefix(runtime.Version(), "go"), runtime.GOOS+"/"+runtime.GOARCH
			switch {
			case short:
				_, err := fmt.Fprintln(out, version)
				return err
			case output == "json":
				return json.NewEncoder(out).Encode(map[string]string{"version": version, "go": goVersion, "platform": platform})
			case output == "text":
				_, err := fmt.Fprintf(out, "pilotfish-agent %s (Go %s, %s)\n", version, goVersion, platform)
				return err
			}
			return fmt.Errorf("--output %q: want text or json", output)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	cmd.Flags().BoolVarP(&short, "short", "s", false, "print the number only")
	return cmd
}
