package inject

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"istio.io/api/annotation"
	"istio.io/api/label"
	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// proxyUID is the user of the proxy, whose own traffic is not redirected.
const proxyUID = 1337

// Options are an Injector's settings that no object of the mesh holds.
type Options struct {
	// Revision is that of the control plane; empty for the default one.
	Revision string
	// Tag is the images' tag where the values name none.
	Tag string
	// Native says when proxies are native sidecars.
	Native Native
}

// Native says whether proxies are native sidecars (init containers that keep
// running, Kubernetes 1.29 and later) or containers like the application's.
type Native string

// The choices of Native.
const (
	NativeAuto  Native = "auto" // where every node's kubelet knows them
	NativeTrue  Native = "true"
	NativeFalse Native = "false"
)

// Injector injects pods by one state of the settings. Immutable.
type Injector struct {
	settings     *Settings
	mesh         *meshconfig.MeshConfig
	proxyConfigs config.Index[*config.ProxyConfig]
	native       bool
	revision     string
}

// New returns the Injector of a Mesh's settings.
func New(m *config.Mesh, s *Settings, o Options) *Injector {
	in := &Injector{
		settings: s, mesh: m.Settings.Mesh, proxyConfigs: m.ProxyConfigs,
		native: o.Native != NativeFalse, revision: o.Revision,
	}
	if o.Native == NativeAuto && m.OldestKubelet > 0 && m.OldestKubelet < nativeSince {
		in.native = false
	}
	return in
}

// nativeSince is the minor version of Kubernetes 1 since which native sidecars
// are on by default.
const nativeSince = 29

// Request is one pod to inject. Nothing of it is changed.
type Request struct {
	// Pod is the pod as it is to be created; for templates of workloads, what
	// pods are made of.
	Pod Object
	// Namespace is where the pod is created.
	Namespace string
	// Env are variables for the proxy, over all others: those of the
	// webhook's path.
	Env map[string]string
	// Owner is the workload, where the pod does not tell.
	Owner *Owner
}

// Owner is the workload that a pod template belongs to.
type Owner struct{ APIVersion, Kind, Namespace, Name string }

// Result is what became of a Request.
type Result struct {
	// Pod is the injected pod, or the Request's own if Skipped.
	Pod Object
	// Skipped says why the pod was left as it is; empty if it was injected.
	Skipped string
	// Warnings are for the user, in whole sentences.
	Warnings []string
}

// Inject adds the proxy to a pod. A pod that has one from before gets it anew
// as if it never had one, so that injecting twice is injecting once. Errors
// are about the pod or the templates, and made for the user to read.
func (in *Injector) Inject(r *Request) (*Result, error) {
	r = &Request{Pod: clone(r.Pod), Namespace: r.Namespace, Env: maps.Clone(r.Env), Owner: r.Owner}
	given := clone(r.Pod)
	if why := in.skip(r); why != "" {
		return &Result{Pod: given, Skipped: why}, nil
	}
	typed, err := in.prepare(r)
	if err != nil {
		return nil, err
	}
	data, err := in.data(r, typed)
	if err != nil {
		return nil, err
	}
	out, injected, err := in.render(r.Pod, data)
	if err != nil {
		return nil, err
	}
	if err := in.finish(out, injected, r, data); err != nil {
		return nil, err
	}
	return &Result{Pod: out, Warnings: warnings(typed)}, nil
}

// prepare makes the pod what it was before any injection, and checks it.
func (in *Injector) prepare(r *Request) (*corev1.Pod, error) {
	if err := stripped(r.Pod); err != nil {
		return nil, err
	}
	typed := &corev1.Pod{}
	if err := fromObject(r.Pod, typed); err != nil {
		return nil, fmt.Errorf("the pod does not read as one: %w", err)
	}
	if typed.Namespace == "" {
		typed.Namespace = r.Namespace
	}
	return typed, checkAnnotations(typed.Annotations)
}

// finish does what templates cannot: it looks at the whole pod.
func (in *Injector) finish(out, injected Object, r *Request, data *templateData) error {
	if proxy := proxyOf(out); proxy != nil {
		for _, name := range slices.Sorted(maps.Keys(r.Env)) {
			setEnv(proxy, name, r.Env[name])
		}
	}
	port := in.statusPort(data)
	if err := in.mergeMetrics(out, port); err != nil {
		return err
	}
	exposeSecurely(out)
	if err := in.rewriteProbes(out, port); err != nil {
		return err
	}
	if network := r.Env[networkEnv]; network != "" {
		under(under(out, "metadata"), "labels")[label.TopologyNetwork.Name] = network
	}
	if err := in.putStatus(out, injected); err != nil {
		return err
	}
	for k, v := range in.settings.annotations {
		annotations(out)[k] = v
	}
	order(out, in.holds(data.ProxyConfig))
	return nil
}

// statusPort is the agent's; 0 where the pod switched its probes off.
func (in *Injector) statusPort(data *templateData) int64 {
	if v, ok := data.ObjectMeta.Annotations[annotation.SidecarStatusPort.Name]; ok {
		n, _ := strconv.ParseInt(v, 10, 32) // checked before
		return n
	}
	return int64(data.ProxyConfig.GetStatusPort())
}

// warnings are about pods that are injected and may not do what was meant.
func warnings(pod *corev1.Pod) []string {
	if p := pod.Spec.DNSPolicy; p != "" && p != corev1.DNSClusterFirst && p != corev1.DNSClusterFirstWithHostNet {
		return []string{fmt.Sprintf("spec.dnsPolicy is %s: the proxy may not find the control plane by its name; want ClusterFirst", p)}
	}
	return nil
}

var errNoContainers = errors.New("spec.containers is empty; want at least one container")
