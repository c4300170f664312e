package main

import (
	"os"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/agent/pod"
)

func newProxy() *cobra.Command {
	o := pod.Options{Environ: os.Environ(), Version: version}
	var logs logFlags
	cmd := &cobra.Command{
		Use:   "proxy [sidecar|router]",
		Short: "Run Envoy as a sidecar or a gateway",
		Long: `Proxy writes Envoy's bootstrap from what injection put into the pod, starts Envoy
and serves its certificates, readiness, metrics and probes. On SIGTERM it drains
Envoy before it stops.`,
		Args:      cobra.MatchAll(cobra.MaximumNArgs(1), cobra.OnlyValidArgs),
		ValidArgs: []string{pod.Sidecar, pod.Router},
		// Templates may pass flags that only Istio's agent knows.
		FParseErrWhitelist: cobra.FParseErrWhitelist{UnknownFlags: true},
		RunE: func(cmd *cobra.Command, args []string) error {
			o.Type = pod.Sidecar
			if len(args) > 0 {
				o.Type = args[0]
			}
			log, err := logs.logger()
			if err != nil {
				return err
			}
			return pod.Run(cmd.Context(), o, log)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.Domain, "domain", "", "the pod's domain: <namespace>.svc.<cluster domain>")
	f.StringVar(&o.LogLevel, "proxyLogLevel", "warning,misc:error", "Envoy's log level: trace, debug, info, warning, error, critical or off")
	f.StringVar(&o.ComponentLogLevel, "proxyComponentLogLevel", "", "log levels of Envoy's components")
	f.StringVar(&o.OutlierLog, "outlierLogPath", "", "where Envoy logs outlier detection")
	f.IntVar(&o.Concurrency, "concurrency", 0, "Envoy's worker threads; 0 leaves it to the proxy's configuration")
	f.StringVar(&o.Root, "root", "", "a directory in which the pod's files are")
	_ = f.MarkHidden("root") // it exists; for tests
	logs.add(cmd)
	return cmd
}
