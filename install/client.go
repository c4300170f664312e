package install

import (
	"fmt"
	"io"
	"log/slog"

	"helm.sh/helm/v4/pkg/action"
	"k8s.io/apiextensions-apiserver/pkg/client/clientset/clientset"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Namespace is where the control plane lives: proxies, tools and certificates
// look for it there.
const Namespace = "istio-system"

// Cluster is the cluster that is worked on.
type Cluster struct {
	kube    kubernetes.Interface
	crds    clientset.Interface
	dynamic dynamic.Interface
	getter  genericclioptions.RESTClientGetter
	out     io.Writer
}

// Connect returns the cluster of a kubeconfig and one of its contexts; empty
// means what kubectl would take. Progress goes to out, one line a step.
func Connect(kubeconfig, context string, out io.Writer) (*Cluster, error) {
	namespace := Namespace
	flags := genericclioptions.NewConfigFlags(true)
	flags.KubeConfig, flags.Context, flags.Namespace = &kubeconfig, &context, &namespace
	flags.WrapConfigFn = func(c *rest.Config) *rest.Config {
		c.QPS, c.Burst = 100, 200
		c.WarningHandlerWithContext = rest.NoWarnings{}
		return c
	}
	config, err := flags.ToRESTConfig()
	if err != nil {
		return nil, fmt.Errorf("no cluster: %w", err)
	}
	c := &Cluster{getter: flags, out: out}
	if c.kube, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.crds, err = clientset.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	if _, err := c.kube.Discovery().ServerVersion(); err != nil {
		return nil, fmt.Errorf("the API server at %s: %w", config.Host, err)
	}
	return c, nil
}

func (c *Cluster) say(format string, args ...any) { _, _ = fmt.Fprintf(c.out, format+"\n", args...) }

func (c *Cluster) helm() (*action.Configuration, error) {
	cfg := action.NewConfiguration(action.ConfigurationSetLogger(slog.DiscardHandler))
	return cfg, cfg.Init(c.getter, Namespace, "")
}
