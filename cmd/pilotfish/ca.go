package main

import (
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/pilotfish-mesh/pilotfish/ca"
)

func newCA() *cobra.Command {
	var kubeconfig, namespace string
	cmd := &cobra.Command{
		Use:   "ca",
		Short: "Look at and rotate a cluster's root certificate",
		Long: `Ca talks to the certificate authority of a running control plane. It never reads a
key: of Secrets it asks the API server for the metadata only.`,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; kubectl's without it")
	f.StringVarP(&namespace, "namespace", "n", "istio-system", "the control plane's namespace")
	operator := func() (*ca.Operator, error) {
		c, err := kubectlConfig(kubeconfig)
		if err != nil {
			return nil, err
		}
		return ca.NewOperator(c, namespace)
	}
	cmd.AddCommand(newCAStatus(operator), newCARotate(operator))
	return cmd
}

// kubectlConfig is how to reach the cluster that kubectl would use.
func kubectlConfig(path string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = path
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
}

func newCAStatus(operator func() (*ca.Operator, error)) *cobra.Command {
	var out outputFlag
	cmd := &cobra.Command{
		Use: "status", Short: "Say which roots are trusted and how far a rotation is", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			o, err := operator()
			if err != nil {
				return err
			}
			s, err := o.State(cmd.Context())
			if err != nil {
				return err
			}
			return showCA(cmd.OutOrStdout(), out.value, s)
		},
	}
	out.add(cmd, "text", "json", "yaml")
	return cmd
}

func showCA(w io.Writer, format string, s ca.State) error {
	if format != "text" {
		return writeData(w, format, s)
	}
	switch {
	case s.PlugIn:
		_, _ = fmt.Fprintln(w, "root: plugged in by Secret cacerts")
	default:
		_, _ = fmt.Fprintf(w, "root: self-signed, in Secret istio-ca-secret\nrotation: %s", s.Phase)
		if !s.Since.IsZero() {
			_, _ = fmt.Fprintf(w, " since %s", s.Since.UTC().Format(time.RFC3339))
		}
		if s.Asked != "" {
			_, _ = fmt.Fprintf(w, " (asked for: %s)", s.Asked)
		}
		_, _ = fmt.Fprintln(w)
	}
	_, _ = fmt.Fprintln(w, "trusted:")
	for _, r := range s.Roots {
		_, _ = fmt.Fprintf(w, "  %s, until %s\n", r.Subject, r.Expires.UTC().Format(time.RFC3339))
	}
	return nil
}

func newCARotate(operator func() (*ca.Operator, error)) *cobra.Command {
	var hurry bool
	cmd := &cobra.Command{
		Use: "rotate", Short: "Replace the self-signed root", Args: cobra.NoArgs,
		Long: `Rotate makes a new root and has the control plane distribute it. Once every proxy has
had the time to learn of it (a certificate's longest life, 24 h), it signs; after the
same time again the old one is no longer trusted. In between both are.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := operator()
			if err != nil {
				return err
			}
			what, text := ca.Begin, "a new root is made and distributed; see pilotfish ca status"
			if hurry {
				what, text = ca.Hurry, "the next phase begins at once; see pilotfish ca status"
			}
			if err := o.Rotate(cmd.Context(), what); err != nil {
				return err
			}
			_, _ = fmt.Fprintln(cmd.OutOrStdout(), text)
			return nil
		},
	}
	cmd.Flags().BoolVar(&hurry, "hurry", false, "go on to the next phase of a rotation that is under way; proxies that are not ready for it refuse each other")
	return cmd
}
