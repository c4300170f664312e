package inject

import (
	"encoding/json"
	"fmt"

	"istio.io/api/annotation"
)

// proberEnv tells the agent what to ask of the application: a JSON object by
// the path under which the kubelet asks the agent.
const proberEnv = "ISTIO_KUBE_APP_PROBERS"

// prober is one probe as the application offers it.
type prober struct {
	HTTPGet        Object `json:"httpGet,omitempty"`
	TCPSocket      Object `json:"tcpSocket,omitempty"`
	GRPC           Object `json:"grpc,omitempty"`
	TimeoutSeconds any    `json:"timeoutSeconds,omitempty"`
}

// probes are the places where a container may ask for probes: the field, its
// owner if that is not the container, and the agent's path.
var probes = []struct{ owner, field, path string }{
	{"", "readinessProbe", "/app-health/%s/readyz"},
	{"", "livenessProbe", "/app-health/%s/livez"},
	{"", "startupProbe", "/app-health/%s/startupz"},
	{"lifecycle", "preStop", "/app-lifecycle/%s/prestopz"},
	{"lifecycle", "postStart", "/app-lifecycle/%s/poststartz"},
}

// eachProbe calls f with every probe of the application's containers.
func eachProbe(pod Object, f func(container, probe Object, path string)) {
	s := spec(pod)
	for _, c := range append(objects(s, initList), objects(s, containersList)...) {
		if text(c, "name") == proxyContainer {
			continue
		}
		for _, p := range probes {
			owner := c
			if p.owner != "" {
				owner, _ = c[p.owner].(Object)
			}
			if probe, ok := owner[p.field].(Object); ok {
				f(c, probe, fmt.Sprintf(p.path, text(c, "name")))
			}
		}
	}
}

// rewriteProbes lets the kubelet ask the agent, which asks the application on
// the pod's loopback: the kubelet has no certificate of the mesh, and the
// proxy would accept any TCP connection. Probes that the kubelet sends to a
// host of their own, or to a port that has no number, stay as they are.
func (in *Injector) rewriteProbes(pod Object, statusPort int64) error {
	proxy := proxyOf(pod)
	if proxy == nil || statusPort == 0 || !in.rewritesProbes(pod) {
		return nil
	}
	asked := map[string]prober{}
	eachProbe(pod, func(container, probe Object, path string) {
		p, ok := proberOf(container, probe)
		if !ok {
			return
		}
		asked[path] = p
		get := Object{"path": path, "port": statusPort}
		if headers, ok := p.HTTPGet["httpHeaders"]; ok {
			get["httpHeaders"] = headers
		}
		delete(probe, "tcpSocket")
		delete(probe, "grpc")
		probe["httpGet"] = get
	})
	if len(asked) == 0 {
		return nil
	}
	b, err := json.Marshal(asked)
	if err != nil {
		return err
	}
	setEnv(proxy, proberEnv, string(b))
	return nil
}

func (in *Injector) rewritesProbes(pod Object) bool {
	switch v, _ := annotationOf(pod, annotation.SidecarRewriteAppHTTPProbers.Name); v {
	case "":
		return in.settings.truth("sidecarInjectorWebhook", "rewriteAppHTTPProbe")
	case "1", "t", "T", "TRUE", "true", "True":
		return true
	}
	return false
}

// proberOf is a probe with its port as a number; false for one that cannot be
// rewritten.
func proberOf(container, probe Object) (prober, bool) {
	p := prober{TimeoutSeconds: probe["timeoutSeconds"]}
	var ok bool
	switch {
	case probe["httpGet"] != nil:
		p.HTTPGet, ok = withNumber(container, probe["httpGet"])
	case probe["tcpSocket"] != nil:
		p.TCPSocket, ok = withNumber(container, probe["tcpSocket"])
	case probe["grpc"] != nil:
		p.GRPC, ok = withNumber(container, probe["grpc"])
	}
	return p, ok
}

func withNumber(container Object, handler any) (Object, bool) {
	h, ok := handler.(Object)
	if !ok || text(h, "host") != "" {
		return nil, false
	}
	name, isName := h["port"].(string)
	if !isName {
		return h, true
	}
	port := named(objects(container, "ports"), name)["containerPort"]
	if port == nil {
		return nil, false // as the kubelet will tell
	}
	h = clone(h)
	h["port"] = port
	return h, true
}

// restoreProbes undoes rewriteProbes in a pod that was injected before.
func restoreProbes(pod, proxy Object) {
	written, ok := env(proxy, proberEnv)
	if !ok {
		return
	}
	asked, err := readObject([]byte(written))
	if err != nil {
		return
	}
	eachProbe(pod, func(_, probe Object, path string) {
		get, _ := probe["httpGet"].(Object)
		if p, ok := asked[path].(Object); ok && text(get, "path") == path {
			delete(probe, "httpGet")
			for _, handler := range []string{"httpGet", "tcpSocket", "grpc"} {
				if h, ok := p[handler].(Object); ok {
					probe[handler] = h
				}
			}
		}
	})
}
