package agent

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Node is what a proxy tells the control plane about itself: the id and the
// metadata keys that Istio's proxies send, so that either control plane
// serves it.
type Node struct {
	Type           string   // sidecar or router
	IPs            []string // the first one primary
	Name           string   // the pod's
	Namespace      string
	DomainSuffix   string // cluster.local
	Labels         map[string]string
	Annotations    map[string]string
	ServiceAccount string
	ClusterID      string
	NodeName       string
	Network        string
	Workload       string // the controller's name
	Owner          Owner
	Locality       Locality
	Interception   string // REDIRECT, TPROXY or NONE
	// Ports are the pod's container ports by name; unnamed ones are not sent.
	Ports map[string]uint32
	// ProxyConfig is the workload's own as JSON, or nil for the mesh's default.
	ProxyConfig json.RawMessage
	// Unprivileged: the gateway cannot bind ports below 1024.
	Unprivileged bool
	// Certificates: an agent serves the proxy its certificates on the socket
	// of cluster sds-grpc.
	Certificates bool
	// Local is set for proxies of a mesh on one machine.
	Local *LocalAddresses
	// ServiceCluster is Envoy's, by which traces name the workload; empty: by
	// the label app and the namespace.
	ServiceCluster string
	// Metadata holds further keys as they are sent; they go before those that
	// follow from the fields above.
	Metadata map[string]any
}

// Owner is the controller of a pod.
type Owner struct{ Group, Kind, Namespace, Name string }

// Locality is where a proxy runs.
type Locality struct{ Region, Zone, Subzone string }

// LocalAddresses say that a proxy shares its machine with others; their
// meaning is config.LocalAddresses'.
type LocalAddresses struct {
	Outbound, App string
	PortBase      uint32
	OwnResolver   bool
}

// ID is the node id: type~ip~name.namespace~domain.
func (n *Node) ID() string {
	ip := ""
	if len(n.IPs) > 0 {
		ip = n.IPs[0]
	}
	return strings.Join([]string{
		n.Type, ip, n.Name + "." + n.Namespace, n.Namespace + ".svc." + n.DomainSuffix,
	}, "~")
}

// cluster is Envoy's service cluster, by which traces name the workload.
func (n *Node) cluster() string {
	if n.ServiceCluster != "" {
		return n.ServiceCluster
	}
	if app := n.Labels["app"]; app != "" {
		return app + "." + n.Namespace
	}
	if n.Workload != "" {
		return n.Workload + "." + n.Namespace
	}
	return "istio-proxy." + n.Namespace
}

type podPort struct {
	Name          string `json:"name"`
	ContainerPort uint32 `json:"containerPort"`
	Protocol      string `json:"protocol"`
}

// localAddresses is the form of metadata PILOTFISH_LOCAL.
type localAddresses struct {
	Outbound string `json:"outbound,omitempty"`
	App      string `json:"app,omitempty"`
	PortBase uint32 `json:"portBase,omitempty"`
	Resolver bool   `json:"ownResolver,omitempty"`
}

// metadata holds the keys in the form that they are sent in.
type metadata struct {
	Name             string            `json:"NAME,omitempty"`
	Namespace        string            `json:"NAMESPACE,omitempty"`
	Labels           map[string]string `json:"LABELS,omitempty"`
	Annotations      map[string]string `json:"ANNOTATIONS,omitempty"`
	InstanceIPs      string            `json:"INSTANCE_IPS,omitempty"`
	ServiceAccount   string            `json:"SERVICE_ACCOUNT,omitempty"`
	ClusterID        string            `json:"CLUSTER_ID,omitempty"`
	NodeName         string            `json:"NODE_NAME,omitempty"`
	Network          string            `json:"NETWORK,omitempty"`
	WorkloadName     string            `json:"WORKLOAD_NAME,omitempty"`
	Owner            string            `json:"OWNER,omitempty"`
	InterceptionMode string            `json:"INTERCEPTION_MODE,omitempty"`
	PodPorts         string            `json:"POD_PORTS,omitempty"`
	ProxyConfig      json.RawMessage   `json:"PROXY_CONFIG,omitempty"`
	UnprivilegedPod  string            `json:"UNPRIVILEGED_POD,omitempty"`
	MeshID           string            `json:"MESH_ID,omitempty"`
	Certificates     string            `json:"PILOTFISH_CERTIFICATES,omitempty"`
	Local            *localAddresses   `json:"PILOTFISH_LOCAL,omitempty"`
}

func (n *Node) metadata() (object, error) {
	m := metadata{
		Name: n.Name, Namespace: n.Namespace, Labels: n.Labels, Annotations: n.Annotations,
		InstanceIPs: strings.Join(n.IPs, ","), ServiceAccount: n.ServiceAccount, ClusterID: n.ClusterID,
		NodeName: n.NodeName, Network: n.Network, WorkloadName: n.Workload, MeshID: n.DomainSuffix,
		InterceptionMode: n.Interception, ProxyConfig: n.ProxyConfig,
	}
	if n.Owner.Name != "" {
		m.Owner = fmt.Sprintf("kubernetes://apis/%s/namespaces/%s/%ss/%s",
			strings.TrimPrefix(n.Owner.Group+"/v1", "/"), n.Owner.Namespace, strings.ToLower(n.Owner.Kind), n.Owner.Name)
	}
	if n.Unprivileged {
		m.UnprivilegedPod = "true"
	}
	if n.Certificates {
		m.Certificates = "true"
	}
	if l := n.Local; l != nil {
		m.Local = &localAddresses{Outbound: l.Outbound, App: l.App, PortBase: l.PortBase, Resolver: l.OwnResolver}
	}
	ports := make([]podPort, 0, len(n.Ports))
	for name, number := range n.Ports {
		ports = append(ports, podPort{name, number, "TCP"})
	}
	sort.Slice(ports, func(i, j int) bool { return ports[i].Name < ports[j].Name })
	if len(ports) > 0 {
		b, err := json.Marshal(ports)
		if err != nil {
			return nil, err
		}
		m.PodPorts = string(b) // a string that holds JSON: so Istio's agent sends it
	}
	b, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	out := object{}
	if err := json.Unmarshal(b, &out); err != nil {
		return nil, err
	}
	for key, v := range n.Metadata {
		out[key] = v
	}
	return out, nil
}

// JSON is the node in the form of Envoy's core.v3.Node.
func (n *Node) JSON() ([]byte, error) {
	o, err := n.json()
	if err != nil {
		return nil, err
	}
	return json.Marshal(o)
}

func (n *Node) json() (object, error) {
	md, err := n.metadata()
	if err != nil {
		return nil, fmt.Errorf("node metadata: %w", err)
	}
	node := object{"id": n.ID(), "cluster": n.cluster(), "metadata": md}
	if l := n.Locality; l != (Locality{}) {
		node["locality"] = object{"region": l.Region, "zone": l.Zone, "subZone": l.Subzone}
	}
	return node, nil
}
