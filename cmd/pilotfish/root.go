package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1 // the command was understood and did not succeed
	exitUsage   = 2 // the command line is wrong, or a checking command could not run
)

// usageError is a mistake in the command line that only the command itself
// can see.
type usageError struct{ error }

func usagef(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// execute runs one command line and returns its exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	started := false
	root := newRoot()
	onStart(root, &started)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)

	ctx, stop := untilSignal()
	defer stop()
	cmd, err := root.ExecuteContextC(ctx)
	if err == nil {
		return exitOK
	}
	if errors.As(err, new(findings)) {
		return exitFailure
	}
	var code exitWith
	if errors.As(err, &code) {
		return int(code)
	}
	var cannot couldNotRun
	if errors.As(err, &cannot) {
		_, _ = fmt.Fprintf(stderr, "pilotfish: %v\n", err)
		return exitUsage
	}
	var usage usageError
	if started && !errors.As(err, &usage) {
		_, _ = fmt.Fprintf(stderr, "pilotfish: %v\n", err)
		return exitFailure
	}
	_, _ = fmt.Fprintf(stderr, "pilotfish: %v\n", strings.TrimSpace(err.Error()))
	if !started && cmd.Runnable() {
		_, _ = fmt.Fprintf(stderr, "Usage: %s\n", cmd.UseLine())
	}
	_, _ = fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	return exitUsage
}

// untilSignal returns a context that ends with the first SIGINT or SIGTERM.
// The second one ends the process at once.
func untilSignal() (context.Context, context.CancelFunc) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}

// onStart notes that a command's own code began: errors before that are about
// the command line.
func onStart(c *cobra.Command, started *bool) {
	if run := c.RunE; run != nil {
		c.RunE = func(cmd *cobra.Command, args []string) error {
			*started = true
			return run(cmd, args)
		}
	}
	for _, sub := range c.Commands() {
		onStart(sub, started)
	}
}

// nearestFlag says which flag may have been meant by one that does not exist.
func nearestFlag(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) || len(unknown.GetSpecifiedName()) == 1 {
		return err
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Errorf("%w: did you mean --%s?", err, near)
	}
	return err
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:   "pilotfish",
		Short: "A control plane for Envoy that reads Istio's configuration",
		Long: `Pilotfish reads Kubernetes, or a folder of YAML, and Istio's configuration API,
translates it to Envoy configuration and serves it to sidecars and gateways.`,
		Example: `  pilotfish lint mesh/                  what is wrong with a folder of YAML
  pilotfish ask --from web.shop http://reviews/ --config mesh/
                                        what happens to a request, and why
  pilotfish diff main..HEAD             which requests a change answers differently
  pilotfish up examples/canary          a mesh on this machine, with real Envoys
  pilotfish serve --config mesh/        a control plane for a folder of YAML
  pilotfish serve --kubeconfig FILE     a control plane for a cluster
  pilotfish inject -f deployment.yaml   the sidecar in YAML, without a webhook`,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.SetFlagErrorFunc(nearestFlag)
	root.AddCommand(newServe(), newUp(), newInject(), newVersion())
	root.AddCommand(newInstall(), newUninstall(), newVerify(), newTag(), newCA())
	root.AddCommand(newAsk(), newTest(), newLint(), newDiff(), newReplay(), newRollout(), newWait())
	return root
}
