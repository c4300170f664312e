package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// configFlags say which configuration a command reads.
type configFlags struct {
	paths      []string
	kubeconfig string
	context    string

	// What several states, suites and runs have in common.
	stdin   func() ([]byte, error) // nil before it is read, as it can be once
	cluster *inputs.Cluster        // nil before it is named
	kept    inputs.Kept
	reads   func(path string) // nil if nobody waits for changes
}

const configHelp = `The configuration is that of --config: folders and files of YAML, kustomize
overlays, "-" for standard input (such as Helm's output), REVISION:PATH for a git
revision; it may be repeated, and of two definitions of one object the later one
counts. With --kubeconfig a live cluster is read too.`

func (f *configFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringArrayVar(&f.paths, "config", nil, `folder, file, kustomize overlay, "-" or REVISION:PATH; may be repeated (default ".")`)
	cmd.Flags().StringVar(&f.kubeconfig, "kubeconfig", "", "kubeconfig of a cluster to read as well")
	cmd.Flags().StringVar(&f.context, "context", "", "context of the kubeconfig")
}

// couldNotRun is an error for which the exit code is 2: the command found out
// nothing. The other commands' failures exit with 1.
type couldNotRun struct{ error }

// load reads the configuration.
func (f *configFlags) load(cmd *cobra.Command) (*config.Mesh, error) {
	return f.loadAt(cmd, "", f.paths)
}

// loadAt reads paths at a git revision, or as they are for "".
func (f *configFlags) loadAt(cmd *cobra.Command, revision string, paths []string) (*config.Mesh, error) {
	o, err := f.options(cmd.InOrStdin(), revision, paths)
	if err != nil {
		return nil, err
	}
	m, err := inputs.Load(cmd.Context(), o)
	if errors.Is(err, context.Canceled) {
		err = errors.New("interrupted")
	}
	if err != nil {
		return nil, couldNotRun{fmt.Errorf("--config: %w", err)}
	}
	return m, nil
}

func (f *configFlags) options(stdin io.Reader, revision string, paths []string) (inputs.Options, error) {
	if len(paths) == 0 && (f.kubeconfig == "" || revision != "") {
		paths = []string{"."}
	}
	if f.stdin == nil {
		f.stdin = sync.OnceValues(func() ([]byte, error) { return io.ReadAll(stdin) })
	}
	if f.kept == nil {
		f.kept = inputs.Kept{}
	}
	if f.kubeconfig != "" && f.cluster == nil {
		c, err := clusterAt(f.kubeconfig, f.context)
		if err != nil {
			return inputs.Options{}, couldNotRun{fmt.Errorf("--kubeconfig: %w", err)}
		}
		f.cluster = inputs.NewCluster(c)
	}
	return inputs.Options{
		Paths: paths, Revision: revision, Stdin: f.stdin, Cluster: f.cluster, Kept: f.kept, Reads: f.reads, Validate: translate.Check,
	}, nil
}

// forget has everything read anew that can be.
func (f *configFlags) forget() { f.cluster, f.kept = nil, inputs.Kept{} }

// texts are what is read by a name: of a file, or what is in none.
func (f *configFlags) texts(name string) []file.Text {
	if s := f.kept[name]; s != nil {
		return s.Texts
	}
	if info, err := os.Stat(name); err != nil || !info.Mode().IsRegular() { // reading a pipe might never end
		return nil
	}
	data, err := os.ReadFile(name) //nolint:gosec // the user names it, or it was read as configuration
	if err != nil {
		return nil
	}
	return []file.Text{{Name: name, Data: data}}
}

func clusterAt(file, context string) (*rest.Config, error) {
	return clientcmd.NewNonInteractiveDeferredLoadingClientConfig(
		&clientcmd.ClientConfigLoadingRules{ExplicitPath: file}, &clientcmd.ConfigOverrides{CurrentContext: context},
	).ClientConfig()
}

// tellProblems writes the mistakes that keep parts of the configuration out,
// and reports whether there are any; and which of two definitions counts.
func (f *configFlags) tellProblems(to io.Writer, m *config.Mesh) bool {
	any := false
	c := columns{texts: f.texts}
	for _, p := range m.Problems {
		if isTold(&p) {
			any = any || p.Severity == config.Error
			c.set(&p)
			_, _ = fmt.Fprintln(to, p)
		}
	}
	return any
}

// isTold reports whether a problem is about what is read, and how, and not about
// what it says, which is for lint.
func isTold(p *config.Problem) bool {
	return p.Severity == config.Error || p.Code == "DefinedTwice" || p.Code == file.OverlayCode
}

// outputFlag is -o.
type outputFlag struct {
	value   string
	formats []string
}

func (f *outputFlag) add(cmd *cobra.Command, formats ...string) {
	f.formats = formats
	cmd.Flags().StringVarP(&f.value, "output", "o", formats[0], strings.Join(formats, ", "))
	completes(cmd, "output", formats...)
}

// completes has shells offer the values of a flag.
func completes(cmd *cobra.Command, flag string, values ...string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

func (f *outputFlag) check() error {
	if !slices.Contains(f.formats, f.value) {
		last := len(f.formats) - 1
		return usagef("--output %q: want %s or %s", f.value, strings.Join(f.formats[:last], ", "), f.formats[last])
	}
	return nil
}

// writeData writes a value as JSON or YAML.
func writeData(to io.Writer, format string, v any) error {
	if format == "yaml" {
		b, err := yaml.Marshal(v)
		if err == nil {
			_, err = to.Write(b)
		}
		return err
	}
	e := json.NewEncoder(to)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
