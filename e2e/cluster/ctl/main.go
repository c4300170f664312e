//go:build linux

// Command ctl starts and ends the one-node cluster of package cluster, and
// works on the running one. `make cluster` and `make cluster-down` run it, and
// package e2e/mesh does.
package main

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/pilotfish-mesh/pilotfish/e2e/cluster"
	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	// The node's own processes are this program in other roles.
	if len(os.Args) == 5 {
		switch os.Args[1] {
		case "init":
			exit(cluster.Init(os.Args[0], os.Args[2:]))
		case "supervise":
			exit(cluster.Supervise(os.Args[2], os.Args[3], os.Args[4]))
		}
	}
	exit(command().ExecuteContext(ctx))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func command() *cobra.Command {
	var dir, bin string
	root := &cobra.Command{
		Use: "ctl", Short: "A one-node Kubernetes on this machine",
		SilenceUsage: true, SilenceErrors: true,
	}
	root.PersistentFlags().StringVar(&dir, "state", cmp.Or(os.Getenv("CLUSTER_DIR"), ".cache/cluster"), "folder of the cluster's state; also $CLUSTER_DIR")
	root.PersistentFlags().StringVar(&bin, "bin", ".cache/bin", "folder of the binaries that tools/build.sh made")
	node := func() (*cluster.Node, error) { return cluster.New(dir, bin) }
	root.AddCommand(up(node, &bin), &cobra.Command{
		Use: "down", Short: "End the cluster and remove every trace of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := node()
			if err != nil {
				return err
			}
			return n.Down(cmd.Context())
		},
	}, onNode(node, "load ARCHIVE...", "Give the node images", cobra.MinimumNArgs(1), func(ctx context.Context, n *cluster.Node, args []string) error {
		return n.Load(ctx, args...)
	}), onNode(node, "start PROCESS", "Start a process of the node", cobra.ExactArgs(1), func(ctx context.Context, n *cluster.Node, args []string) error {
		return n.Start(ctx, args[0])
	}), onNode(node, "stop PROCESS", "Kill a process of the node", cobra.ExactArgs(1), func(ctx context.Context, n *cluster.Node, args []string) error {
		return n.Stop(ctx, args[0])
	}), onNode(node, "run -- COMMAND...", "Run a command inside of the node", cobra.MinimumNArgs(1), func(ctx context.Context, n *cluster.Node, args []string) error {
		out, err := n.Run(ctx, args...)
		_, _ = fmt.Fprint(os.Stdout, out)
		return err
	}))
	return root
}

func onNode(node func() (*cluster.Node, error), use, short string, args cobra.PositionalArgs, do func(context.Context, *cluster.Node, []string) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: args, RunE: func(cmd *cobra.Command, args []string) error {
		n, err := node()
		if err != nil {
			return err
		}
		return do(cmd.Context(), n, args)
	}}
}

func up(node func() (*cluster.Node, error), bin *string) *cobra.Command {
	var app string
	var archives []string
	cmd := &cobra.Command{
		Use: "up", Short: "Start the cluster unless it is up", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			n, err := node()
			if err != nil {
				return err
			}
			self, err := os.Executable()
			if err != nil {
				return err
			}
			image := images.Image{
				Layers:     [][]images.File{{{Path: "/app", Source: app}}},
				Entrypoint: []string{"/app", "pause"},
			}
			pause := func(to string) error { return image.Write(to, cluster.PauseImage) }
			if err := n.Up(cmd.Context(), self, cmd.ErrOrStderr(), pause, archives...); err != nil {
				return err
			}
			path, err := filepath.Abs(*bin)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "export KUBECONFIG=%q\nexport CLUSTER_DIR=%q\nexport PATH=\"$PATH\":%q\n",
				n.Kubeconfig(), filepath.Dir(n.Kubeconfig()), path)
			return err
		},
	}
	cmd.Flags().StringVar(&app, "app", ".cache/bin/e2e-app", "binary of e2e/app, for the pods' sandboxes")
	cmd.Flags().StringArrayVar(&archives, "image", nil, "docker archive of an image to load; may be repeated")
	return cmd
}
