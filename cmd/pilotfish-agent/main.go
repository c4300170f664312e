// Package main is the pilotfish-agent command, the entry point of a sidecar's
// and a gateway's container: its flags are those that Istio's injection
// templates pass.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "unknown"

// memory is the limit that the collector works towards. A container's limit
// is for Envoy, too, so GOMEMLIMIT as injection sets it would be far too high.
const memory = 20 << 20

func main() {
	debug.SetMemoryLimit(memory)
	debug.SetGCPercent(50)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the second signal ends the process at once
	root := newRoot()
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "pilotfish-agent: %v\n", err)
		os.Exit(1)
	}
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "pilotfish-agent",
		Short:         "What runs beside an application: starts and serves its Envoy",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newProxy(), newWait(), newRequest(), newIptables(), newVersion())
	return root
}

// logFlags are those of Istio's commands, of which the level and the format
// mean something here.
type logFlags struct {
	level  string
	asJSON bool
}

func (f *logFlags) add(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.level, "log_output_level", "default:info", "debug, info, warn, error or none; \"default:info\" and lists of such are understood, too")
	flags.BoolVar(&f.asJSON, "log_as_json", false, "log JSON rather than plain text")
	for _, name := range []string{"log_target", "log_rotate", "log_caller", "log_stacktrace_level"} {
		flags.String(name, "", "accepted and without effect")
		_ = flags.MarkHidden(name) // it exists
	}
}
