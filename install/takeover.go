package install

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common/util"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// istiosTemplates are the injection templates that Istio's chart writes; their
// texts start Istio's images, so they are not taken over.
var istiosTemplates = []string{"sidecar", "gateway", "grpc-simple", "grpc-agent", "waypoint", "kube-gateway", "agentgateway", "agentgateway-waypoint"}

// imageValues are injection values that name images, or the control plane that
// they belong to, by their paths.
var imageValues = [][]string{
	{"revision"}, {"global", "hub"}, {"global", "tag"}, {"global", "variant"}, {"global", "imagePullPolicy"}, {"global", "istioNamespace"},
	{"global", "proxy", "image"}, {"global", "proxy", "variant"}, {"global", "proxy_init", "image"},
}

// SettingsOf reads what the control plane of a revision, istiod's or pilotfish's,
// is configured with, as values of the chart: the MeshConfig of ConfigMap istio
// and what ConfigMap istio-sidecar-injector says about injection. It leaves out
// what belongs to that control plane: its address, its images and the templates
// that Istio brings.
func (c *Cluster) SettingsOf(ctx context.Context, revision string) (map[string]any, error) {
	meshConfig, err := c.settings(ctx, "istio"+suffix(revision), "mesh")
	if err != nil {
		return nil, err
	}
	defaults, _ := meshConfig["defaultConfig"].(map[string]any)
	delete(defaults, "discoveryAddress")
	delete(defaults, "image") // its type is a suffix of Istio's tags
	if len(defaults) == 0 {
		delete(meshConfig, "defaultConfig")
	}
	if _, says := meshConfig["accessLogFile"]; !says {
		meshConfig["accessLogFile"] = "" // Istio's default; the chart has another one
	}
	injector := "istio-sidecar-injector" + suffix(revision)
	values, err := c.settings(ctx, injector, "values")
	if err != nil {
		return nil, err
	}
	for _, path := range imageValues {
		remove(values, path)
	}
	config, err := c.settings(ctx, injector, "config")
	if err != nil {
		return nil, err
	}
	injection := map[string]any{"values": values}
	for _, k := range []string{"policy", "defaultTemplates", "aliases", "neverInjectSelector", "alwaysInjectSelector", "injectedAnnotations"} {
		if v := config[k]; v != nil {
			injection[k] = v
		}
	}
	if templates, _ := config["templates"].(map[string]any); len(templates) > 0 {
		maps.DeleteFunc(templates, func(name string, _ any) bool { return slices.Contains(istiosTemplates, name) })
		injection["templates"] = templates
	}
	return map[string]any{"meshConfig": meshConfig, "injection": injection}, nil
}

// WithSettings lays the values over those of another revision, if o names one.
func (c *Cluster) WithSettings(ctx context.Context, o Options) (Options, error) {
	if o.SettingsFrom == "" {
		return o, nil
	}
	found, err := c.SettingsOf(ctx, o.SettingsFrom)
	if err != nil {
		return o, err
	}
	c.say("✔ settings taken from revision %s: meshConfig (%s), injection (%s)", o.SettingsFrom, keys(found["meshConfig"]), keys(found["injection"]))
	o.Values = util.CoalesceTables(maps.Clone(o.Values), found)
	return o, nil
}

// settings is the mapping that one key of a ConfigMap holds.
func (c *Cluster) settings(ctx context.Context, name, key string) (map[string]any, error) {
	cm, err := c.kube.CoreV1().ConfigMaps(Namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, fmt.Errorf("there is no ConfigMap %s/%s to take settings from: is the revision's name right?", Namespace, name)
	}
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(cm.Data[key]), &out); err != nil {
		return nil, fmt.Errorf("ConfigMap %s/%s, key %s: %w", Namespace, name, key, err)
	}
	return out, nil
}

// remove takes a value out of nested mappings.
func remove(values map[string]any, path []string) {
	for _, k := range path[:len(path)-1] {
		values, _ = values[k].(map[string]any)
	}
	delete(values, path[len(path)-1])
}

// otherControlPlanes are the Deployments of control planes that are not
// pilotfish's: istiod's.
func (c *Cluster) otherControlPlanes(ctx context.Context) (names []string, err error) {
	list, err := c.kube.AppsV1().Deployments(Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, err
	}
	for _, d := range list.Items {
		if d.Labels["app.kubernetes.io/name"] != controlPlane {
			names = append(names, d.Name)
		}
	}
	return names, nil
}

// keys are those of a mapping, for people.
func keys(of any) string {
	m, _ := of.(map[string]any)
	return strings.Join(slices.Sorted(maps.Keys(m)), ", ")
}
