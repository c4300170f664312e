package main

import (
	"cmp"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"helm.sh/helm/v4/pkg/cli/values"

	"github.com/pilotfish-mesh/pilotfish/install"
)

// clusterFlags are those of every command that works on a cluster.
type clusterFlags struct{ kubeconfig, context string }

func (f *clusterFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; default: what kubectl takes")
	cmd.Flags().StringVar(&f.context, "context", "", "its context")
}

func (f *clusterFlags) connect(out io.Writer) (*install.Cluster, error) {
	return install.Connect(f.kubeconfig, f.context, out)
}

// chartFlags say what the charts are given.
type chartFlags struct {
	values, gateway values.Options
	revision        string
	settingsFrom    string
	noGateway       bool
}

func (f *chartFlags) add(cmd *cobra.Command) {
	fl := cmd.Flags()
	fl.StringArrayVarP(&f.values.ValueFiles, "values", "f", nil, "YAML file of the chart's values (manifests/chart/values.yaml); may be repeated")
	fl.StringArrayVar(&f.values.Values, "set", nil, "one value of the chart: key=value; may be repeated")
	fl.StringArrayVar(&f.gateway.ValueFiles, "gateway-values", nil, "YAML file of the gateway chart's values (manifests/gateway/values.yaml)")
	fl.StringArrayVar(&f.gateway.Values, "gateway-set", nil, "one value of the gateway's chart: key=value")
	fl.StringVar(&f.revision, "revision", "", "revision of the control plane, to run several side by side")
	fl.StringVar(&f.settingsFrom, "settings-from", "", "revision whose MeshConfig and injection settings are taken over, such as that of an istiod (default for the one without a name); values given go first")
	fl.BoolVar(&f.noGateway, "no-gateway", false, "install no istio-ingressgateway")
}

func (f *chartFlags) options() (install.Options, error) {
	o := install.Options{Gateway: !f.noGateway && f.revision == "", SettingsFrom: f.settingsFrom}
	if version != "unknown" {
		o.Version = version
	}
	var err error
	if o.Values, err = f.values.MergeValues(nil); err != nil {
		return o, usageError{fmt.Errorf("values: %w", err)}
	}
	if o.GatewayValues, err = f.gateway.MergeValues(nil); err != nil {
		return o, usageError{fmt.Errorf("gateway values: %w", err)}
	}
	if f.revision != "" {
		o.Values["revision"] = f.revision
	}
	if err := o.Check(); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func newInstall() *cobra.Command {
	var (
		cluster clusterFlags
		charts  chartFlags
		dryRun  bool
		timeout time.Duration
	)
	cmd := &cobra.Command{
		Use:   "install",
		Short: "Install pilotfish in a cluster, or upgrade it",
		Long: `Install puts the control plane and a gateway into namespace istio-system, waits until
they run, and verifies them. It is Helm: releases pilotfish and istio-ingressgateway.
Run again it upgrades; the values are then those given now.

With --revision the control plane gets a name and takes only what is labelled with it
(istio.io/rev), beside the one that is there; see pilotfish tag.`,
		Example: `  pilotfish install
  pilotfish install --set hub=registry.example.com/pilotfish --set tag=v0.1.0
  pilotfish install --dry-run > install.yaml
  pilotfish install --revision canary
  pilotfish install --revision pilotfish --settings-from default   # beside an istiod`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o, err := charts.options()
			if err != nil {
				return err
			}
			o.Timeout = timeout
			if dryRun {
				if o.SettingsFrom != "" {
					c, err := cluster.connect(cmd.ErrOrStderr())
					if err == nil {
						o, err = c.WithSettings(cmd.Context(), o)
					}
					if err != nil {
						return err
					}
				}
				text, err := install.Render(o)
				if err != nil {
					return err
				}
				_, err = io.WriteString(cmd.OutOrStdout(), text)
				return err
			}
			c, err := cluster.connect(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			if err := c.Install(cmd.Context(), o); err != nil || timeout == 0 {
				return err
			}
			return c.Verify(cmd.Context(), charts.revision, settling)
		},
	}
	cluster.add(cmd)
	charts.add(cmd)
	cmd.Flags().BoolVar(&dryRun, "dry-run", false, "print what would be applied")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Minute, "how long to wait for pods; 0: do not wait")
	return cmd
}

func newUninstall() *cobra.Command {
	var cluster clusterFlags
	var r install.Removal
	cmd := &cobra.Command{
		Use:   "uninstall",
		Short: "Remove pilotfish from a cluster",
		Long: `Uninstall removes the gateway and the control plane, or with --revision that control
plane alone, which has to be there. Istio's CRDs with the objects of users, the signing
key, trust bundles and tags stay, unless --purge is to leave nothing.`,
		Example: `  pilotfish uninstall
  pilotfish uninstall --revision canary
  pilotfish uninstall --purge`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if r.Purge && r.Revision != "" {
				return usagef("--purge removes all revisions: leave out --revision")
			}
			c, err := cluster.connect(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return c.Uninstall(cmd.Context(), r)
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&r.Revision, "revision", "", "only the control plane of this revision")
	cmd.Flags().BoolVar(&r.Purge, "purge", false, "also remove Istio's CRDs with every object of theirs, the signing key, trust bundles, tags, and the control planes of all revisions")
	cmd.Flags().BoolVar(&r.Force, "force", false, "also if tags lead to the revision")
	cmd.Flags().DurationVar(&r.Timeout, "timeout", 2*time.Minute, "with --purge: how long to wait for the end of users' objects")
	return cmd
}

// settling is longer than a leader's Lease and then the first writes of a new one.
const settling = 30 * time.Second

func newVerify() *cobra.Command {
	var cluster clusterFlags
	var revision string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Tell whether pilotfish works in a cluster",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := cluster.connect(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return c.Verify(cmd.Context(), revision, timeout)
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "the control plane of this revision")
	cmd.Flags().DurationVar(&timeout, "timeout", settling, "how long to wait for what is still on its way; 0: tell what is now")
	return cmd
}

func newTag() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "tag",
		Short: "Names for revisions of the control plane",
		Long: `A tag is a name that namespaces are labelled with (istio.io/rev=TAG) in place of a
revision, so that all of them move to another revision at once. Tag default is also that
of namespaces labelled istio-injection=enabled.`,
		Example: `  pilotfish install --revision canary
  pilotfish tag set prod --revision canary     # then restart the workloads`,
	}
	cmd.AddCommand(newTagSet(), newTagGenerate(), newTagList(), newTagRemove())
	return cmd
}

func newTagSet() *cobra.Command {
	var cluster clusterFlags
	var revision string
	cmd := &cobra.Command{
		Use: "set TAG --revision REVISION", Short: "Make a tag lead to a revision", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if revision == "" {
				return usagef("--revision is missing")
			}
			c, err := cluster.connect(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return c.SetTag(cmd.Context(), args[0], revision)
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "where the tag leads")
	return cmd
}

func newTagGenerate() *cobra.Command {
	var cluster clusterFlags
	var revision string
	cmd := &cobra.Command{
		Use: "generate TAG --revision REVISION", Short: "Print what tag set would write, for kubectl apply", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if revision == "" {
				return usagef("--revision is missing")
			}
			c, err := cluster.connect(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			text, err := c.GenerateTag(cmd.Context(), args[0], revision)
			if err != nil {
				return err
			}
			_, err = io.WriteString(cmd.OutOrStdout(), text)
			return err
		},
	}
	cluster.add(cmd)
	cmd.Flags().StringVar(&revision, "revision", "", "where the tag leads")
	return cmd
}

func newTagList() *cobra.Command {
	var cluster clusterFlags
	var out outputFlag
	cmd := &cobra.Command{
		Use: "list", Short: "List the tags", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := out.check(); err != nil {
				return err
			}
			c, err := cluster.connect(cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			tags, err := c.Tags(cmd.Context())
			if err != nil {
				return err
			}
			if out.value != "text" {
				return writeData(cmd.OutOrStdout(), out.value, map[string]any{"tags": append([]install.Tag{}, tags...)})
			}
			w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
			_, _ = fmt.Fprintln(w, "TAG\tREVISION\tNAMESPACES")
			for _, t := range tags {
				revision := t.Revision
				if !t.Installed {
					revision += " (not installed)"
				}
				_, _ = fmt.Fprintf(w, "%s\t%s\t%s\n", t.Name, revision, cmp.Or(strings.Join(t.Namespaces, ", "), "<none>"))
			}
			return w.Flush()
		},
	}
	cluster.add(cmd)
	out.add(cmd, "text", "json", "yaml")
	return cmd
}

func newTagRemove() *cobra.Command {
	var cluster clusterFlags
	var force bool
	cmd := &cobra.Command{
		Use: "remove TAG", Short: "Remove a tag", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := cluster.connect(cmd.OutOrStdout())
			if err != nil {
				return err
			}
			return c.RemoveTag(cmd.Context(), args[0], force)
		},
	}
	cluster.add(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "also if namespaces are labelled with it")
	return cmd
}
