package inject

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"text/template"

	"istio.io/api/annotation"
	"istio.io/api/label"
	meshconfig "istio.io/api/mesh/v1alpha1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Variables that the webhook's path may set, which count elsewhere too.
const (
	clusterEnv = "ISTIO_META_CLUSTER_ID"
	networkEnv = "ISTIO_META_NETWORK"
)

// templateData is what a template sees. The names are Istio's.
type templateData struct {
	TypeMeta                 metav1.TypeMeta
	DeploymentMeta           types.NamespacedName
	ObjectMeta               metav1.ObjectMeta
	Spec                     corev1.PodSpec
	ProxyConfig              *meshconfig.ProxyConfig
	MeshConfig               *meshconfig.MeshConfig
	Values                   map[string]any
	Revision                 string
	NativeSidecars           bool
	ProxyImage               string
	ProxyInitImage           string
	ProxyUID                 int64
	ProxyGID                 int64
	InboundTrafficPolicyMode string
	CompliancePolicy         string
}

// data gathers what templates see of a pod, and completes the Request's Env
// with what the values say about the cluster.
func (in *Injector) data(r *Request, pod *corev1.Pod) (*templateData, error) {
	pc, err := in.proxyConfigFor(pod.Namespace, pod.Labels, pod.Annotations)
	if err != nil {
		return nil, err
	}
	name, kind := workload(pod)
	if o := r.Owner; o != nil {
		name = types.NamespacedName{Namespace: o.Namespace, Name: o.Name}
		kind = metav1.TypeMeta{APIVersion: o.APIVersion, Kind: o.Kind}
	}
	in.place(r, pod)
	d := &templateData{
		TypeMeta: kind, DeploymentMeta: name, ObjectMeta: pod.ObjectMeta, Spec: pod.Spec,
		ProxyConfig: pc, MeshConfig: in.mesh, Values: in.settings.values, Revision: in.revision,
		NativeSidecars: in.nativeFor(pod),
		ProxyImage:     in.settings.image("proxy", imageType(pc, pod.Annotations)),
		ProxyInitImage: in.settings.image("proxy_init", pod.Annotations[annotation.SidecarProxyImageType.Name]),
		ProxyUID:       proxyUID, ProxyGID: proxyUID,
		InboundTrafficPolicyMode: strings.ToLower(in.mesh.GetInboundTrafficPolicy().GetMode().String()),
	}
	return d, nil
}

// place finds the cluster and network: from the webhook's path, else from the
// values; a pod's own label counts most.
func (in *Injector) place(r *Request, pod *corev1.Pod) {
	if r.Env == nil {
		r.Env = map[string]string{}
	}
	if v := in.settings.text("global", "multiCluster", "clusterName"); v != "" && r.Env[clusterEnv] == "" {
		r.Env[clusterEnv] = v
	}
	if v := in.settings.text("global", "network"); v != "" && r.Env[networkEnv] == "" {
		r.Env[networkEnv] = v
	}
	if v, ok := pod.Labels[label.TopologyNetwork.Name]; ok {
		r.Env[networkEnv] = v
	}
}

func (in *Injector) nativeFor(pod *corev1.Pod) bool {
	switch pod.Annotations["sidecar.istio.io/nativeSidecar"] {
	case "true":
		return true
	case "false":
		return false
	}
	return in.native
}

// templatesFor are those that the pod names, else the default ones, with
// aliases resolved once.
func (in *Injector) templatesFor(data *templateData) ([]*template.Template, error) {
	names := in.settings.defaultTemplates
	if written, ok := data.ObjectMeta.Annotations[annotation.InjectTemplates.Name]; ok {
		names = nil
		for _, n := range strings.Split(written, ",") {
			names = append(names, strings.TrimSpace(n))
		}
	}
	var out []*template.Template
	for _, n := range names {
		resolved := []string{n}
		if a, ok := in.settings.aliases[n]; ok {
			resolved = a
		}
		for _, n := range resolved {
			t := in.settings.templates[n]
			if t == nil {
				return nil, fmt.Errorf("annotation %s asks for template %q, which does not exist; want one of %s",
					annotation.InjectTemplates.Name, shortened(n), in.settings.templateNames())
			}
			out = append(out, t)
		}
	}
	return out, nil
}

// render lays the templates over the pod, and what the user said of the same
// containers over them. injected is what the templates alone say.
func (in *Injector) render(pod Object, data *templateData) (out, injected Object, err error) {
	list, err := in.templatesFor(data)
	if err != nil {
		return nil, nil, err
	}
	if len(data.Spec.Containers) == 0 {
		return nil, nil, errNoContainers
	}
	pod = withoutDefaultPolicy(pod)
	out, injected = pod, Object{}
	for _, t := range list {
		over, err := execute(t, data)
		if err != nil {
			return nil, nil, err
		}
		if injected, err = merged(injected, over); err != nil {
			return nil, nil, fmt.Errorf("template %s: %w", t.Name(), err)
		}
		if data.NativeSidecars {
			out = withNativeProxy(out, injected)
		}
		if out, err = merged(out, over); err != nil {
			return nil, nil, fmt.Errorf("template %s: %w", t.Name(), err)
		}
	}
	if out, err = withUsersOwn(out, pod, injected); err != nil {
		return nil, nil, err
	}
	runAs(out, pod, data)
	return out, injected, nil
}

func execute(t *template.Template, data *templateData) (Object, error) {
	var b bytes.Buffer
	if err := t.Execute(&b, data); err != nil {
		return nil, fmt.Errorf("template %s: %w", t.Name(), err)
	}
	over, err := readYAML(b.Bytes())
	if err != nil {
		return nil, fmt.Errorf("template %s gives no YAML mapping for this pod: %w", t.Name(), err)
	}
	return over, nil
}

// withNativeProxy moves the user's settings of the proxy to the list in which
// the template has it.
func withNativeProxy(pod, injected Object) Object {
	s := spec(pod)
	own := named(objects(s, containersList), proxyContainer)
	if own == nil || named(objects(spec(injected), initList), proxyContainer) == nil {
		return pod
	}
	pod = clone(pod)
	s = spec(pod)
	setObjects(s, containersList, withoutNamed(objects(s, containersList), proxyContainer))
	setObjects(s, initList, append(objects(s, initList), own))
	return pod
}

// autoImage is the image of containers whose image the template decides: an
// image is required where a user only wants to change something else.
const autoImage = "auto"

// withoutDefaultPolicy drops the pull policy Always of such containers: the
// API server writes it for an image without a tag, and nobody has asked for it.
func withoutDefaultPolicy(pod Object) Object {
	pod = clone(pod)
	for _, list := range []string{containersList, initList} {
		for _, c := range objects(spec(pod), list) {
			if text(c, "image") == autoImage && text(c, "imagePullPolicy") == string(corev1.PullAlways) {
				delete(c, "imagePullPolicy")
			}
		}
	}
	return pod
}

// overrides are the user's own settings of injected containers, as they are
// kept in an annotation for the next injection.
type overrides struct {
	Containers     []Object `json:"containers,omitempty"`
	InitContainers []Object `json:"initContainers,omitempty"`
}

// withUsersOwn lays the user's containers over the injected ones of the same
// name.
func withUsersOwn(out, pod, injected Object) (Object, error) {
	var own overrides
	before := append(objects(spec(pod), containersList), objects(spec(pod), initList)...)
	for _, list := range []struct {
		name string
		keep *[]Object
	}{{containersList, &own.Containers}, {initList, &own.InitContainers}} {
		for _, c := range objects(spec(injected), list.name) {
			user := named(before, text(c, "name"))
			if user == nil {
				continue
			}
			user = clone(user)
			if image := text(user, "image"); image == autoImage || image == "" {
				delete(user, "image")
			}
			*list.keep = append(*list.keep, user)
			var err error
			if out, err = merged(out, Object{"spec": Object{list.name: []any{user}}}); err != nil {
				return nil, fmt.Errorf("container %s: %w", text(c, "name"), err)
			}
		}
	}
	if len(own.Containers)+len(own.InitContainers) > 0 {
		b, err := json.Marshal(own)
		if err != nil {
			return nil, err
		}
		annotations(out)[annotation.ProxyOverrides.Name] = string(b)
	}
	return out, nil
}

// runAs lets redirection spare the traffic of the user that the proxy really
// runs as, if the pod chose another one.
func runAs(out, pod Object, data *templateData) {
	user := proxyOf(pod)
	context, _ := user["securityContext"].(Object)
	uid, ok := context["runAsUser"]
	if !ok || fmt.Sprint(uid) == "0" {
		return
	}
	mode, ok := data.ObjectMeta.Annotations[annotation.SidecarInterceptionMode.Name]
	if mode == "TPROXY" || !ok && data.ProxyConfig.GetInterceptionMode() == meshconfig.ProxyConfig_TPROXY {
		// A transparent proxy needs root.
		under(proxyOf(out), "securityContext")["runAsUser"] = int64(0)
	}
	for _, name := range []string{initContainer, validateContainer} {
		c := named(objects(spec(out), initList), name)
		args, _ := c["args"].([]any)
		for i := range args {
			if args[i] == "-u" && i+1 < len(args) {
				args[i+1] = fmt.Sprint(uid)
			}
		}
	}
}
