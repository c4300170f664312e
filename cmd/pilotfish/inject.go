package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/kube"
	"github.com/pilotfish-mesh/pilotfish/translate"
	"github.com/pilotfish-mesh/pilotfish/webhook/inject"
)

// injectFlags are those of the command inject.
type injectFlags struct {
	files      []string
	config     []string
	kubeconfig string
	namespace  string
	options    inject.Options
}

func newInject() *cobra.Command {
	var f injectFlags
	cmd := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Add the sidecar to YAML, as the webhook would",
		Long: `Inject reads YAML and writes it with the sidecar in every pod and pod template: Pod,
Deployment, StatefulSet, DaemonSet, ReplicaSet, Job, CronJob, lists of them. Everything
else comes out as it went in. Use it where no webhook may be installed, or to see what
the webhook would do.

Settings are those of a mesh without configuration, or of the one that --config or
--kubeconfig leads to (ConfigMaps istio and istio-sidecar-injector, ProxyConfigs).`,
		Example: `  # Deploy with the sidecar, without a webhook
  pilotfish inject -f deployment.yaml | kubectl apply -f -

  # What would the webhook of this cluster do?
  kubectl get deployment web -o yaml | pilotfish inject -f - --kubeconfig ~/.kube/config

  # With the settings of a folder
  pilotfish inject -f deployment.yaml --config mesh/`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if len(f.files) == 0 {
				return usagef("no input: give -f FILE, or -f - for standard input")
			}
			return f.run(cmd)
		},
	}
	flags := cmd.Flags()
	flags.StringArrayVarP(&f.files, "filename", "f", nil, "file of YAML, or - for standard input; may be repeated")
	flags.StringArrayVar(&f.config, "config", nil, "folder or file of YAML with the mesh's settings; may be repeated")
	flags.StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster with the mesh's settings")
	flags.StringVarP(&f.namespace, "namespace", "n", "default", "namespace of objects that name none")
	flags.StringVar(&f.options.Revision, "revision", "", "revision of the control plane; empty for the default one")
	nativeSidecars(flags, &f.options.Native)
	return cmd
}

func (f *injectFlags) run(cmd *cobra.Command) error {
	in, err := f.injector(cmd.Context())
	if err != nil {
		return err
	}
	var out []byte
	for _, name := range f.files {
		text, err := readFile(name, cmd.InOrStdin())
		if err != nil {
			return err
		}
		injected, notes, err := in.YAML(text, f.namespace)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if len(out) > 0 {
			out = append(out, "---\n"...)
		}
		out = append(out, injected...)
		for _, n := range notes {
			if n.Skipped != "" {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: %s is left as it is: %s\n", name, n.Line, n.Object, n.Skipped)
			}
			if n.Warning != "" {
				_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "%s:%d: warning: %s: %s\n", name, n.Line, n.Object, n.Warning)
			}
		}
	}
	_, err = cmd.OutOrStdout().Write(out)
	return err
}

func readFile(name string, stdin io.Reader) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(stdin)
	}
	return os.ReadFile(name)
}

// injector is that of the mesh that the flags lead to.
func (f *injectFlags) injector(ctx context.Context) (*inject.Injector, error) {
	m, err := f.mesh(ctx)
	if err != nil {
		return nil, err
	}
	if v := buildInfo().Version; v != "unknown" {
		f.options.Tag = v
	}
	follower := inject.NewFollower(f.options)
	follower.Follow(m)
	return follower.Injector()
}

// mesh reads the sources once.
func (f *injectFlags) mesh(ctx context.Context) (*config.Mesh, error) {
	sources := map[string]discovery.Source{}
	var names []string
	if len(f.config) > 0 {
		for _, p := range f.config {
			if _, err := os.Stat(p); err != nil {
				return nil, fmt.Errorf("--config: %w", err)
			}
		}
		names, sources[file.Name] = append(names, file.Name), file.New(f.config)
	}
	if f.kubeconfig != "" {
		c, err := clientcmd.BuildConfigFromFlags("", f.kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("--kubeconfig %s: %w", f.kubeconfig, err)
		}
		k, err := kube.New(c, kube.Options{})
		if err != nil {
			return nil, err
		}
		names, sources[kube.Name] = append(names, kube.Name), k
	}
	if len(sources) == 0 {
		return config.NewBuilder(nil).Mesh(), nil
	}
	store := discovery.NewStore(translate.Check, names...)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g, ctx := errgroup.WithContext(ctx)
	for _, s := range sources {
		g.Go(func() error { return s.Run(ctx, store) })
	}
	select {
	case <-store.Changed():
	case <-ctx.Done():
	}
	cancel()
	if err := g.Wait(); err != nil {
		return nil, err
	}
	if m := store.Mesh(); m != nil {
		return m, nil
	}
	return nil, context.Cause(ctx)
}
