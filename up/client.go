package up

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func afterSlash(s string) string { return s[strings.LastIndexByte(s, '/')+1:] }

// DialFunc connects as net.Dialer.DialContext does.
type DialFunc func(ctx context.Context, network, address string) (net.Conn, error)

// Workload is one workload of the mesh.
type Workload struct {
	Namespace string
	Name      string // the controller's, or the pod's without one
	Pods      []Pod
}

// Pod is one running pod.
type Pod struct {
	Name    string
	Address string // in the mesh
	Gateway bool
	Sidecar bool
	Ports   []uint32 // of the application
	Labels  map[string]string
	// ProxyID is the node id by which the control plane knows its proxy;
	// empty without one.
	ProxyID string
}

// Log returns the last lines, at most n, that the proxy of a workload or pod
// wrote, access logs at /dev/stdout among them.
func (m *Mesh) Log(workload string, n int) ([]string, error) {
	p, err := m.find(workload)
	if err != nil {
		return nil, err
	}
	if p.proxy == nil {
		return nil, fmt.Errorf("%s has no proxy", p.plan.key())
	}
	return p.proxy.log.last(n), nil
}

// Workloads are the running ones, by namespace and name.
func (m *Mesh) Workloads() []Workload {
	var out []Workload
	for _, p := range m.podList() {
		ns, name := p.plan.workload.Namespace, workloadName(p.plan.workload)
		i := slices.IndexFunc(out, func(w Workload) bool { return w.Namespace == ns && w.Name == name })
		if i < 0 {
			i = len(out)
			out = append(out, Workload{Namespace: ns, Name: name})
		}
		v := Pod{
			Name: p.plan.name, Address: p.place.addr.String(), Gateway: p.plan.role == gateway,
			Sidecar: p.plan.role == sidecar, Ports: p.ports(), Labels: p.plan.workload.Labels,
		}
		if p.node != nil {
			v.ProxyID = p.node.ID()
		}
		out[i].Pods = append(out[i].Pods, v)
	}
	return out
}

// find returns the first pod of a workload, or the pod, of that name; without
// a namespace that in "default" goes before others.
func (m *Mesh) find(name string) (*pod, error) {
	var found *pod
	for _, p := range m.podList() {
		w := p.plan.workload
		full := w.Namespace + "/" + workloadName(w)
		switch {
		case p.plan.key() == name, full == name:
			return p, nil
		case strings.Contains(name, "/"), name != p.plan.name && name != workloadName(w):
		case found == nil, w.Namespace == "default" && found.plan.workload.Namespace != "default":
			found = p
		}
	}
	if found == nil {
		return nil, fmt.Errorf("no workload %q is running", name)
	}
	return found, nil
}

// Dialer connects as the application of a workload (namespace/name, or name
// alone) does: through its sidecar. Names are those of the mesh.
func (m *Mesh) Dialer(workload string) (DialFunc, error) {
	p, err := m.find(workload)
	if err != nil {
		return nil, err
	}
	if p.plan.role == gateway {
		return nil, fmt.Errorf("%s is a gateway: no application runs there", p.plan.key())
	}
	return func(ctx context.Context, _, address string) (net.Conn, error) {
		host, port, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		n, err := strconv.ParseUint(port, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("port %q: %w", port, err)
		}
		to, err := m.destination(p, host, uint16(n))
		if err != nil {
			return nil, err
		}
		return p.place.dial(ctx, to)
	}, nil
}

// Client is an HTTP client that sends as the application of a workload does.
// It follows no redirects. The caller closes its idle connections.
func (m *Mesh) Client(workload string) (*http.Client, error) {
	dial, err := m.Dialer(workload)
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Timeout:       requestTimeout,
		Transport:     &http.Transport{DialContext: dial},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// destination is where an application's connection to a host goes.
func (m *Mesh) destination(p *pod, host string, port uint16) (netip.AddrPort, error) {
	if l := p.place.local; l != nil && p.plan.role == sidecar {
		// Interception NONE: the sidecar listens for the application.
		a, err := netip.ParseAddr(l.Outbound)
		if port < 1024 {
			port += uint16(l.PortBase) //nolint:gosec // stays a port
		}
		return netip.AddrPortFrom(a, port), err
	}
	if a, err := netip.ParseAddr(host); err == nil {
		return netip.AddrPortFrom(a, port), nil
	}
	mesh := m.plane.Store.Mesh()
	if p.plan.role == plain {
		if to, ok := endpointOf(mesh, p.plan.workload.Namespace, host, port); ok {
			return to, nil
		}
	}
	a, err := resolve(mesh, p.plan.workload.Namespace, host)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return netip.AddrPortFrom(a, port), nil
}

// endpointOf is one of a Service's endpoints: for pods without a sidecar a
// cluster's nodes translate its address, and here nobody does.
func endpointOf(m *config.Mesh, ns, host string, port uint16) (netip.AddrPort, bool) {
	_, s := m.Lookup(ns, host)
	if s == nil {
		return netip.AddrPort{}, false
	}
	endpoints, ok := m.Endpoints.Get(s.Namespace, s.Hostname)
	if !ok {
		return netip.AddrPort{}, false
	}
	for _, p := range s.Ports {
		if p.Number != uint32(port) {
			continue
		}
		for i := range endpoints.ByPort[p.Name] {
			e := &endpoints.ByPort[p.Name][i]
			if a, err := netip.ParseAddr(e.Address); err == nil && e.Port < 1<<16 {
				return netip.AddrPortFrom(a, uint16(e.Port)), true //nolint:gosec // bounded
			}
		}
	}
	return netip.AddrPort{}, false
}

// resolve answers as a cluster's DNS does for a pod of a namespace.
func resolve(m *config.Mesh, ns, host string) (netip.Addr, error) {
	if a, _ := m.Lookup(ns, host); a.IsValid() {
		return a, nil
	}
	host = strings.ToLower(strings.TrimSuffix(host, "."))
	if !strings.Contains(host, ".") || strings.HasSuffix(host, "."+m.Settings.DomainSuffix) {
		return netip.Addr{}, &net.DNSError{Err: "no such service in the mesh", Name: host, IsNotFound: true}
	}
	return outsideAddress, nil
}
