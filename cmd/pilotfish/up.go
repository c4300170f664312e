package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/pilotfish-mesh/pilotfish/up"
)

// defaultLoad is the rate of --load without a value.
const defaultLoad = 50

func newUp() *cobra.Command {
	var (
		o      up.Options
		mode   string
		noRoot bool
		ads    string
	)
	cmd := &cobra.Command{
		Use:   "up DIR...",
		Short: "Run a mesh on this machine, with real Envoys",
		Long: `Up reads folders of YAML and runs what they describe: for each workload (Pod,
Deployment and other templates, WorkloadEntry) a small server that says who it is
and an Envoy beside it, and an Envoy for each gateway. Editing the YAML changes the
running mesh. Ctrl-C ends it and leaves nothing behind.

As root each pod has a network namespace of its own, whose traffic is redirected into
its Envoy as in a cluster. Without root all pods share the loopback range.

The page's address is an HTTP proxy, too: whoever names a workload as its user sends
as that workload's application does, through its sidecar.`,
		Example: `  # The canary, under a steady load of 50 requests a second
  pilotfish up examples/canary --load

  # Send as the workload curl of namespace foo (of default without a namespace)
  curl -x curl.foo@127.0.0.1:PORT http://httpbin:8000/

  # Without network namespaces
  pilotfish up examples/canary --mode loopback`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if slices.Contains(args, "-") {
				return usagef("\"-\": up watches what it reads, which standard input cannot be: give it folders or files")
			}
			o.Paths, o.Build = args, buildInfo()
			o.Mode = up.Mode(mode)
			if noRoot {
				o.Mode = up.Loopback
			}
			switch o.Mode {
			case up.Auto, up.Namespaces, up.Loopback:
			default:
				return usagef("--mode %q: want auto, netns or loopback", mode)
			}
			switch ads {
			case "delta", "sotw":
				o.StateOfTheWorld = ads == "sotw"
			default:
				return usagef("--ads %q: want delta or sotw", ads)
			}
			if o.LoadRate < 0 || o.LoadRate > 10_000 {
				return usagef("--load %d: want 0 to 10000 requests a second", o.LoadRate)
			}
			return runUp(cmd, o)
		},
	}
	f := cmd.Flags()
	addEnvoy(f, &o.Envoy, "Envoy to run; default $ENVOY")
	f.StringVar(&o.PageAddress, "http-address", "127.0.0.1:0", "the web page; empty for none")
	f.StringVar(&mode, "mode", "auto", "auto, netns or loopback")
	f.BoolVar(&noRoot, "no-root", false, "the same as --mode loopback")
	f.StringVar(&ads, "ads", "delta", "delta or sotw: how the Envoys ask for configuration")
	f.BoolVar(&o.InternalKeys, "jwks-internal", false, "fetch keys of token issuers (jwksUri) from loopback, private and link-local addresses, too")
	f.StringSliceVar(&o.Environment, "env", nil, "variable of this environment that a header of an extension provider (envName) may have the value of; others get a placeholder")
	f.IntVar(&o.LoadRate, "load", 0, fmt.Sprintf("requests a second to send through the first gateway; %d without a number", defaultLoad))
	f.Lookup("load").NoOptDefVal = fmt.Sprint(defaultLoad)
	completes(cmd, "mode", "auto", "netns", "loopback")
	completes(cmd, "ads", "delta", "sotw")
	return cmd
}

func runUp(cmd *cobra.Command, o up.Options) error {
	var mu sync.Mutex
	o.Note = func(line string) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = fmt.Fprintln(cmd.ErrOrStderr(), line)
	}
	m, err := up.Start(cmd.Context(), o)
	if cmd.Context().Err() != nil && err != nil {
		return nil // stopped while starting
	}
	if err != nil {
		return err
	}
	defer o.Note("stopped")
	defer m.Close()
	if url := m.PageURL(); url != "" {
		_, _ = fmt.Fprintln(cmd.OutOrStdout(), url)
	}
	o.Note("ready; Ctrl-C stops it")
	return follow(cmd.Context(), m)
}

// follow waits for the end.
func follow(ctx context.Context, m *up.Mesh) error {
	select {
	case <-ctx.Done():
		return nil
	case <-m.Failed():
		return m.Err()
	}
}

// addEnvoy adds the flag that names an Envoy. The help says the same on every
// machine, whatever its environment.
func addEnvoy(f *pflag.FlagSet, to *string, usage string) {
	f.StringVar(to, "envoy", os.Getenv("ENVOY"), usage)
	f.Lookup("envoy").DefValue = ""
}
