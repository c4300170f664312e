package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pilotfish-mesh/pilotfish/registration"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
)

// logFlags are those of every command that logs.
type logFlags struct{ level, format string }

func (f *logFlags) add(cmd *cobra.Command, level, format string) {
	cmd.Flags().StringVar(&f.level, "log-level", level, "debug, info, warn or error")
	cmd.Flags().StringVar(&f.format, "log-format", format, "json or console")
	completes(cmd, "log-level", "debug", "info", "warn", "error")
	completes(cmd, "log-format", "json", "console")
}

func (f *logFlags) logger(to zapcore.WriteSyncer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(f.level)
	if err != nil || level > zapcore.ErrorLevel {
		return nil, usagef("--log-level %q: want debug, info, warn or error", f.level)
	}
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	enc.TimeKey = "time"
	switch f.format {
	case "json":
		return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), to, level)), nil
	case "console":
		return zap.New(zapcore.NewCore(zapcore.NewConsoleEncoder(enc), to, level)), nil
	default:
		return nil, usagef("--log-format %q: want json or console", f.format)
	}
}

// inClusterFlags are those of a control plane that is part of a cluster.
func inClusterFlags(f *pflag.FlagSet, o *serve.Options) {
	f.BoolVar(&o.ReadOnly, "read-only", false, "write nothing to the API server and sign no certificates (default with --kubeconfig)")
	f.BoolFunc("object-status", "write into the status of Istio's objects what is wrong with them and how many proxies have them (default true, or what PILOT_ENABLE_STATUS says)", func(v string) error {
		on, err := strconv.ParseBool(v)
		o.NoStatus = !on
		return err
	})
	o.NoStatus = strings.EqualFold(os.Getenv("PILOT_ENABLE_STATUS"), "false")
	f.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "the control plane's own namespace; istio-system if empty")
	f.StringVar(&o.StateDir, "state-dir", "/var/lib/pilotfish", "folder for the last good state, served when the API server is away at the start; must exist")
	f.StringToStringVar(&o.MountedSecrets, "mounted-secrets", map[string]string{"cacerts": "/etc/cacerts", "istio-ca-secret": "/var/run/secrets/istio-ca"},
		"folders where the authority's Secrets may be mounted, for when the API server is away at the start")
	f.StringVar(&o.Identity, "identity", os.Getenv("POD_NAME"), "this replica's name among its peers")
	var more []string
	if list := os.Getenv("DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES"); list != "" {
		more = strings.Split(list, ",")
	}
	f.StringSliceVar(&o.DebugNamespaces, "debug-namespaces", more, "namespaces, besides the control plane's own, whose service accounts may see every debug page (DEBUG_ENDPOINT_AUTH_ALLOWED_NAMESPACES)")
	f.BoolFunc("debug-auth", "debug information is for those who have proven who they are; with false every machine that reaches a port sees it, Secrets redacted (default true, or what ENABLE_DEBUG_ENDPOINT_AUTH says)", func(v string) error {
		on, err := strconv.ParseBool(v)
		o.OpenDebug = !on
		return err
	})
	if on, err := strconv.ParseBool(os.Getenv("ENABLE_DEBUG_ENDPOINT_AUTH")); err == nil { // anything else leaves it closed
		o.OpenDebug = !on
	}
	grace := registration.DefaultGrace
	if d, err := time.ParseDuration(os.Getenv("PILOT_WORKLOAD_ENTRY_GRACE_PERIOD")); err == nil && d > 0 {
		grace = d
	}
	f.DurationVar(&o.WorkloadEntryGrace, "workload-entry-grace-period", grace, "how long the proxy of a registered WorkloadEntry may be away before the entry is removed (PILOT_WORKLOAD_ENTRY_GRACE_PERIOD)")
	f.DurationVar(&o.CertificateLifetime, "certificate-lifetime", 24*time.Hour, "the longest life of a workload's certificate")
}

func addressFlags(f *pflag.FlagSet, o *serve.Options) {
	f.StringVar(&o.XDSAddress, "xds-address", ":15010", "ADS in plaintext")
	f.StringVar(&o.SecureXDSAddress, "secure-xds-address", ":15012", "ADS and certificates over TLS, for clients with a certificate or a token")
	f.StringVar(&o.WebhookAddress, "webhook-address", ":15017", "admission webhooks over TLS")
	f.StringVar(&o.MonitoringAddress, "monitoring-address", ":15014", "/metrics, /debug and /version")
	f.StringVar(&o.HTTPAddress, "http-address", ":8080", "/ready")
}

func newServe() *cobra.Command {
	var (
		o    serve.Options
		logs logFlags
		cert struct{ serving, key, clients string }
	)
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Serve configuration to Envoys",
		Long: `Serve reads Kubernetes, folders of YAML or both, and serves what follows from them
to sidecars and gateways over ADS. In a pod it needs no flags.

An empty address switches a listener off, port 0 picks a free port and logs it.

In a pod it also is the cluster's certificate authority, whose root Secret cacerts
or istio-ca-secret holds, and writes what a control plane writes: the trust bundle in
every namespace, Leases, status. With --kubeconfig it writes nothing, unless
--read-only=false.

The secure ADS address lets in proxies that prove who they are, by a certificate of
that authority (or of one in --tls-client-ca), or by a service account's token for
audience istio-ca. Nothing that a Secret protects is served in plaintext.
Debug pages (/debug/... on the monitoring address) answer clients on this machine,
such as those that come by a port-forward, and others that prove who they are by a
token for audience istio-ca: of the control plane's namespace all of it, of other
namespaces what is about their own proxies.`,
		Example: `  # A folder of YAML, no cluster: plaintext ADS for proxies on this machine
  pilotfish serve --config mesh/ --xds-address 127.0.0.1:15010

  # A cluster from outside, with files added to it
  pilotfish serve --kubeconfig ~/.kube/config --config more.yaml

  # What do proxies have?
  curl localhost:15014/debug/syncz`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logs.logger(zapcore.Lock(zapcore.AddSync(cmd.ErrOrStderr())))
			if err != nil {
				return err
			}
			defer func() { _ = log.Sync() }()
			if cert.serving+cert.key+cert.clients != "" {
				if o.Authority, err = serve.NewAuthority(cert.serving, cert.key, cert.clients); err != nil {
					return err
				}
			}
			if _, err := os.Stat(o.StateDir); err != nil && !cmd.Flags().Changed("state-dir") {
				o.StateDir = ""
			}
			if !cmd.Flags().Changed("read-only") {
				o.ReadOnly = o.Kubeconfig != ""
			}
			for _, p := range o.Config {
				if _, err := os.Stat(p); err != nil {
					return fmt.Errorf("--config: %w", err)
				}
			}
			o.Log, o.Build = log, buildInfo()
			o.Page = configPage(cmd.Context())
			o.Environment = os.LookupEnv
			return serve.Run(cmd.Context(), o)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&o.Config, "config", nil, "folder or file of YAML; may be repeated")
	f.StringVar(&o.Kubeconfig, "kubeconfig", "", "kubeconfig of a cluster to read")
	addressFlags(f, &o)
	f.StringVar(&cert.serving, "tls-cert", "", "certificate (PEM) of the TLS addresses; without it the cluster's authority signs one, or one is made in memory")
	f.StringVar(&cert.key, "tls-key", "", "its key (PEM)")
	f.StringVar(&cert.clients, "tls-client-ca", "", "authorities (PEM) of the proxies that the secure ADS address lets in")
	f.StringVar(&o.Revision, "revision", os.Getenv("REVISION"), "revision of this control plane (label istio.io/rev); empty for the default one")
	nativeSidecars(f, &o.NativeSidecars)
	inClusterFlags(f, &o)
	f.BoolVar(&o.InternalKeys, "jwks-internal", false, "fetch keys of token issuers (jwksUri) from loopback, private and link-local addresses, too")
	f.BoolVar(&o.Pprof, "pprof", false, "serve /debug/pprof on the monitoring address")
	addBounds(f, &o.XDS)
	logs.add(cmd, "info", "json")
	return cmd
}

// nativeSidecars adds the flag of that name, whose default is the variable
// that istiod reads.
func nativeSidecars(f *pflag.FlagSet, to *inject.Native) {
	*to = inject.NativeAuto
	if v := inject.Native(os.Getenv("ENABLE_NATIVE_SIDECARS")); v == inject.NativeTrue || v == inject.NativeFalse {
		*to = v
	}
	f.Var(nativeValue{to}, "native-sidecars", "inject proxies as native sidecars: true, false, or auto (where every kubelet is 1.29 or newer)")
}

// nativeValue is the flag's value.
type nativeValue struct{ to *inject.Native }

func (v nativeValue) String() string {
	if v.to == nil {
		return ""
	}
	return string(*v.to)
}

func (nativeValue) Type() string { return "auto|true|false" }

func (v nativeValue) Set(s string) error {
	switch n := inject.Native(s); n {
	case inject.NativeAuto, inject.NativeTrue, inject.NativeFalse:
		*v.to = n
		return nil
	}
	return errors.New("want auto, true or false")
}
