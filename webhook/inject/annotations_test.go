package inject

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"istio.io/api/annotation"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// effect is what an annotation with a value does to a pod: at a place that is
// something else without it.
type effect struct {
	value string
	at    func(pod Object) any
	want  any
}

// effects are the annotations that injection itself honours.
var effects = map[string]effect{
	annotation.InjectTemplates.Name:                           {"gateway", proxyArgument("router"), true},
	annotation.IoIstioRerouteVirtualInterfaces.Name:           {"net1", initFlag("-k"), "net1"},
	annotation.PrometheusMergeMetrics.Name:                    {"false", podAnnotation("prometheus.io/port"), ""},
	annotation.ProxyConfig.Name:                               {"{concurrency: 7}", variable("PROXY_CONFIG"), `{"concurrency":7}`},
	annotation.SidecarStatusReadinessFailureThreshold.Name:    {"9", readiness("failureThreshold"), int64(9)},
	annotation.SidecarStatusReadinessInitialDelaySeconds.Name: {"9", readiness("initialDelaySeconds"), int64(9)},
	annotation.SidecarStatusReadinessPeriodSeconds.Name:       {"9", readiness("periodSeconds"), int64(9)},
	annotation.SidecarAgentLogLevel.Name:                      {"default:debug", proxyArgument("--log_output_level=default:debug"), true},
	annotation.SidecarBootstrapOverride.Name:                  {"own", variable("ISTIO_BOOTSTRAP_OVERRIDE"), "/etc/istio/custom-bootstrap/custom_bootstrap.json"},
	annotation.SidecarComponentLogLevel.Name:                  {"filter:trace", proxyArgument("--proxyComponentLogLevel=filter:trace"), true},
	annotation.SidecarInject.Name:                             {"false", hasProxy, false},
	annotation.SidecarInterceptionMode.Name:                   {"TPROXY", initFlag("-m"), "TPROXY"},
	annotation.SidecarLogLevel.Name:                           {"debug", proxyArgument("--proxyLogLevel=debug"), true},
	annotation.SidecarNativeSidecar.Name:                      {"false", isNative, false},
	annotation.SidecarProxyCPU.Name:                           {"7m", resources("requests", "cpu"), "7m"},
	annotation.SidecarProxyCPULimit.Name:                      {"7m", resources("limits", "cpu"), "7m"},
	annotation.SidecarProxyMemory.Name:                        {"7Mi", resources("requests", "memory"), "7Mi"},
	annotation.SidecarProxyMemoryLimit.Name:                   {"7Mi", resources("limits", "memory"), "7Mi"},
	annotation.SidecarProxyImage.Name:                         {"example.com/own:7", ofProxy("image"), "example.com/own:7"},
	annotation.SidecarProxyImageType.Name:                     {"debug", ofProxy("image"), "docker.io/pilotfish/pilotfish-proxy:latest-debug"},
	annotation.SidecarRewriteAppHTTPProbers.Name:              {"false", livenessPath, "/live"},
	annotation.SidecarUserVolume.Name:                         {`{"certs": {"emptyDir": {}}}`, hasVolume("certs"), true},
	annotation.SidecarUserVolumeMount.Name:                    {`{"certs": {"mountPath": "/certs"}}`, mountPath("certs"), "/certs"},
	annotation.SidecarStatusPort.Name:                         {"15999", podAnnotation("prometheus.io/port"), "15999"},
	annotation.SidecarTrafficExcludeInboundPorts.Name:         {"22", initFlag("-d"), "15090,15021,22,15020"},
	annotation.SidecarTrafficExcludeInterfaces.Name:           {"eth7", initFlag("-c"), "eth7"},
	annotation.SidecarTrafficExcludeOutboundIPRanges.Name:     {"10.9.0.0/16", initFlag("-x"), "10.9.0.0/16"},
	annotation.SidecarTrafficExcludeOutboundPorts.Name:        {"25", initFlag("-o"), "25"},
	annotation.SidecarTrafficIncludeInboundPorts.Name:         {"80", initFlag("-b"), "80"},
	annotation.SidecarTrafficIncludeOutboundIPRanges.Name:     {"10.0.0.0/8", initFlag("-i"), "10.0.0.0/8"},
	annotation.SidecarTrafficIncludeOutboundPorts.Name:        {"5432", initFlag("-q"), "5432"},
	annotation.SidecarTrafficKubevirtInterfaces.Name:          {"net1", initFlag("-k"), "net1"},
	// Istio's templates have it, its API does not.
	"sidecar.istio.io/capNetBindService": {"true", ofProxy("securityContext", "runAsUser"), int64(0)},
}

// byAgent are those that the agent in the pod reads. Its package tests what
// they do (TestStatisticsByAnnotations, TestAnnotatedMetrics).
var byAgent = []string{
	annotation.SidecarDiscoveryAddress.Name, annotation.SidecarStatsInclusionPrefixes.Name,
	annotation.SidecarStatsInclusionSuffixes.Name, annotation.SidecarStatsInclusionRegexps.Name,
	annotation.SidecarStatsFlushInterval.Name, annotation.SidecarStatsEvictionInterval.Name,
	annotation.SidecarStatsHistogramBuckets.Name,
}

// TestAnnotations holds that every annotation of Istio's API for pods is
// honoured, or is in the documents with the reason why not.
func TestAnnotations(t *testing.T) {
	documented := documentedAnnotations(t)
	known := map[string]bool{"sidecar.istio.io/capNetBindService": true}
	for _, a := range annotation.AllResourceAnnotations() {
		if !slices.Contains(a.Resources, annotation.Pod) {
			continue
		}
		known[a.Name] = true
		_, honoured := effects[a.Name]
		if n := countTrue(honoured, slices.Contains(byAgent, a.Name), documented[a.Name]); n != 1 {
			t.Errorf("%s is in %d of: the effects of this test, those of the agent, the table of docs/injection.md; want 1", a.Name, n)
		}
	}
	for name := range documented {
		if !known[name] {
			t.Errorf("docs/injection.md tells of %s, which Istio's API does not have for pods", name)
		}
	}
	for name, e := range effects {
		t.Run(name, func(t *testing.T) {
			if !known[name] {
				t.Error("Istio's API does not have it for pods")
			}
			if got := e.at(annotatedPod(t, name, "")); got == e.want {
				t.Errorf("without it there is %v, too", got)
			}
			if got := e.at(annotatedPod(t, name, e.value)); got != e.want {
				t.Errorf("%v, want %v", got, e.want)
			}
		})
	}
}

// Those of the agent reach it, and are read there.
func TestAnnotationsOfTheAgent(t *testing.T) {
	pod := annotatedPod(t, annotation.SidecarStatsFlushInterval.Name, "1s")
	if mountPath("istio-podinfo")(pod) != "/etc/istio/pod" || podAnnotation(annotation.SidecarStatsFlushInterval.Name)(pod) != "1s" {
		t.Errorf("the agent does not get the pod's annotations: %v", pod)
	}
	files, err := filepath.Glob("../../agent/pod/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(b)
	}
	for _, name := range byAgent {
		if !strings.Contains(source.String(), `"`+name+`"`) {
			t.Errorf("nothing in agent/pod reads %s", name)
		}
	}
}

func countTrue(all ...bool) (n int) {
	for _, b := range all {
		if b {
			n++
		}
	}
	return n
}

// documentedAnnotations are the names in the first column of the document's table.
func documentedAnnotations(t *testing.T) map[string]bool {
	t.Helper()
	text, err := os.ReadFile("../../docs/injection.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## Annotations\n")
	if !ok {
		t.Fatal("docs/injection.md has no section Annotations")
	}
	section, _, _ = strings.Cut(section, "\n## ")
	out := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\| ([^|]+) \\|$").FindAllStringSubmatch(section, -1) {
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(row[1], -1) {
			out[name[1]] = true
		}
	}
	return out
}

// annotatedPod injects a pod with one annotation, or none for value "".
func annotatedPod(t *testing.T, name, value string) Object {
	t.Helper()
	pod, err := readYAML([]byte(`
apiVersion: v1
kind: Pod
metadata: {name: a, namespace: shop}
spec: {containers: [{name: app, image: a, livenessProbe: {httpGet: {path: /live, port: 80}}}]}
`))
	if err != nil {
		t.Fatal(err)
	}
	if value != "" {
		annotations(pod)[name] = value
	}
	settings, err := ParseSettings(map[string]string{}, "")
	if err != nil {
		t.Fatal(err)
	}
	got, err := New(config.NewBuilder(nil).Mesh(), settings, Options{Native: NativeTrue}).Inject(&Request{Pod: pod, Namespace: "shop"})
	if err != nil {
		t.Fatal(err)
	}
	return got.Pod
}

func proxyList(pod Object, list string) []any {
	proxy := proxyOf(pod)
	l, _ := proxy[list].([]any)
	return l
}

func proxyArgument(a string) func(Object) any {
	return func(pod Object) any { return slices.Contains(proxyList(pod, "args"), any(a)) }
}

// initFlag is the value after a flag of the init step; nil without it.
func initFlag(flag string) func(Object) any {
	return func(pod Object) any {
		args, _ := named(objects(spec(pod), initList), initContainer)["args"].([]any)
		if i := slices.Index(args, any(flag)); i >= 0 {
			return args[i+1]
		}
		return nil
	}
}

func ofProxy(path ...string) func(Object) any {
	return func(pod Object) any {
		var v any = proxyOf(pod)
		for _, p := range path {
			o, _ := v.(Object)
			v = o[p]
		}
		return v
	}
}

func variable(name string) func(Object) any {
	return func(pod Object) any { return named(objects(proxyOf(pod), "env"), name)["value"] }
}

func readiness(field string) func(Object) any { return ofProxy("readinessProbe", field) }

func resources(which, what string) func(Object) any { return ofProxy("resources", which, what) }

func podAnnotation(name string) func(Object) any {
	return func(pod Object) any {
		v, _ := annotationOf(pod, name)
		return v
	}
}

func hasProxy(pod Object) any { return proxyOf(pod) != nil }

func isNative(pod Object) any { return named(objects(spec(pod), initList), proxyContainer) != nil }

func livenessPath(pod Object) any {
	return fmt.Sprint(named(objects(spec(pod), containersList), "app")["livenessProbe"].(Object)["httpGet"].(Object)["path"])
}

func hasVolume(name string) func(Object) any {
	return func(pod Object) any { return named(objects(spec(pod), "volumes"), name) != nil }
}

func mountPath(name string) func(Object) any {
	return func(pod Object) any { return named(objects(proxyOf(pod), "volumeMounts"), name)["mountPath"] }
}
