package serve

import (
	"encoding/json"
	"fmt"
	"iter"
	"net/http"
	"slices"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// debugPage is one page under /debug/.
type debugPage struct {
	path string
	page http.HandlerFunc
}

// debug serves what istiod's debug pages of the same names show, in their
// shapes as far as tools read them.
func (p *Pages) debug() http.Handler {
	pages := append([]debugPage{
		{"configz", p.ofMesh(configz)},
		{"endpointz", p.ofMesh(endpointz)},
		{"endpointShardz", p.ofMesh(endpointz)},
		{"registryz", p.ofMesh(registryz)},
		{"mesh", p.ofMesh(meshConfig)},
		{"held", p.held},
		{"clusterz", p.ofMesh(clusterz)},
		{"problems", p.ofMesh(func(*config.Mesh) any { return nonNil(p.Plane.Problems()) })},
	}, p.proxyPages()...)
	mux := http.NewServeMux()
	names := []string{"list"}
	for _, page := range pages {
		names = append(names, page.path)
		mux.HandleFunc("GET /debug/"+page.path, page.page)
	}
	slices.Sort(names)
	mux.HandleFunc("GET /debug/list", func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, names) })
	return mux
}

// clusterState is a cluster that configuration is read of, in istiod's shape.
type clusterState struct {
	ID         string `json:"id"`
	SecretName string `json:"secretName"`
	SyncStatus string `json:"syncStatus"`
}

// clusterz lists the one cluster that is read, under the name that its proxies
// have for it. A Mesh is made when all of it is there.
func clusterz(*config.Mesh) any {
	return []clusterState{{ID: "Kubernetes", SyncStatus: "synced"}}
}

// ofMesh is a page about the newest Mesh.
func (p *Pages) ofMesh(page func(*config.Mesh) any) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		m := p.Plane.Store.Mesh()
		if m == nil {
			http.Error(w, "waiting for the first complete view of the configuration", http.StatusServiceUnavailable)
			return
		}
		writeJSON(w, r, page(m))
	}
}

// meshConfig is the MeshConfig in service.
func meshConfig(m *config.Mesh) any {
	b, err := protojson.Marshal(m.Settings.Mesh)
	if err != nil {
		return fmt.Sprintf("cannot be shown: %v", err)
	}
	return json.RawMessage(b)
}

func nonNil[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// object is a configuration object as the API server shows it.
type object struct {
	APIVersion string          `json:"apiVersion"`
	Kind       string          `json:"kind"`
	Metadata   objectMeta      `json:"metadata"`
	Spec       json.RawMessage `json:"spec"`
}

type objectMeta struct {
	Name              string            `json:"name"`
	Namespace         string            `json:"namespace,omitempty"`
	Labels            map[string]string `json:"labels,omitempty"`
	Annotations       map[string]string `json:"annotations,omitempty"`
	CreationTimestamp *time.Time        `json:"creationTimestamp,omitempty"`
	ResourceVersion   string            `json:"resourceVersion,omitempty"`
	Generation        int64             `json:"generation,omitempty"`
}

// configz lists Istio's objects. Secrets are none of them.
func configz(m *config.Mesh) any {
	out := []object{}
	out = appendObjects(out, m.VirtualServices.All())
	out = appendObjects(out, m.DestinationRules.All())
	out = appendObjects(out, m.Gateways.All())
	out = appendObjects(out, m.ServiceEntries.All())
	out = appendObjects(out, m.Sidecars.All())
	out = appendObjects(out, m.WorkloadEntries.All())
	out = appendObjects(out, m.WorkloadGroups.All())
	out = appendObjects(out, m.EnvoyFilters.All())
	out = appendObjects(out, m.ProxyConfigs.All())
	out = appendObjects(out, m.PeerAuthentications.All())
	out = appendObjects(out, m.RequestAuthentications.All())
	out = appendObjects(out, m.AuthorizationPolicies.All())
	out = appendObjects(out, m.Telemetries.All())
	return appendObjects(out, m.WasmPlugins.All())
}

func appendObjects[T proto.Message](out []object, all iter.Seq[*config.Object[T]]) []object {
	for o := range all {
		spec, err := protojson.Marshal(o.Spec)
		if err != nil {
			spec, _ = json.Marshal(fmt.Sprintf("cannot be shown: %v", err))
		}
		v := object{
			APIVersion: o.Group + "/" + o.Version, Kind: o.Kind, Spec: spec,
			Metadata: objectMeta{
				Name: o.Name, Namespace: o.Namespace, Labels: o.Labels, Annotations: o.Annotations,
				ResourceVersion: o.ResourceVersion, Generation: o.Generation,
			},
		}
		if !o.Created.IsZero() {
			v.Metadata.CreationTimestamp = &o.Created
		}
		out = append(out, v)
	}
	return out
}

type shards struct {
	Shards map[string][]endpoint `json:"Shards"`
}

type endpoint struct {
	Addresses       []string          `json:"Addresses"`
	EndpointPort    uint32            `json:"EndpointPort"`
	ServicePortName string            `json:"ServicePortName"`
	HealthStatus    config.Health     `json:"HealthStatus"`
	LbWeight        uint32            `json:"LbWeight,omitempty"`
	Labels          map[string]string `json:"Labels,omitempty"`
	Locality        string            `json:"Locality,omitempty"`
	Network         string            `json:"Network,omitempty"`
	Namespace       string            `json:"Namespace,omitempty"`
	WorkloadName    string            `json:"WorkloadName,omitempty"`
	ServiceAccount  string            `json:"ServiceAccount,omitempty"`
	NodeName        string            `json:"NodeName,omitempty"`
}

// endpointz is hostname, then namespace, then the cluster's endpoints.
func endpointz(m *config.Mesh) any {
	out := map[string]map[string]shards{}
	for e := range m.Endpoints.All() {
		list := []endpoint{}
		for port, eps := range e.ByPort {
			for i := range eps {
				p := &eps[i]
				list = append(list, endpoint{
					Addresses: append([]string{p.Address}, p.MoreAddresses...), EndpointPort: p.Port,
					ServicePortName: port, HealthStatus: p.Health, LbWeight: p.Weight, Labels: p.Labels,
					Locality: p.Locality.String(), Network: p.Network, Namespace: p.Namespace,
					WorkloadName: p.Workload, ServiceAccount: p.ServiceAccount, NodeName: p.Node,
				})
			}
		}
		if out[e.ID.Hostname] == nil {
			out[e.ID.Hostname] = map[string]shards{}
		}
		out[e.ID.Hostname][e.ID.Namespace] = shards{map[string][]endpoint{"Kubernetes/Kubernetes": list}}
	}
	return out
}

type service struct {
	Hostname       string              `json:"hostname"`
	DefaultAddress string              `json:"defaultAddress,omitempty"`
	ClusterVIPs    map[string][]string `json:"clusterVIPs,omitempty"`
	Ports          []servicePort       `json:"ports"`
	Resolution     config.Resolution   `json:"Resolution"`
	MeshExternal   bool                `json:"MeshExternal"`
	Attributes     serviceAttributes   `json:"Attributes"`
}

type servicePort struct {
	Name     string          `json:"name,omitempty"`
	Port     uint32          `json:"port"`
	Protocol config.Protocol `json:"protocol,omitempty"`
}

type serviceAttributes struct {
	ServiceRegistry string            `json:"ServiceRegistry"`
	Name            string            `json:"Name"`
	Namespace       string            `json:"Namespace"`
	Labels          map[string]string `json:"Labels,omitempty"`
	LabelSelectors  map[string]string `json:"LabelSelectors,omitempty"`
	ExternalName    string            `json:"ExternalName,omitempty"`
}

func registryz(m *config.Mesh) any {
	out := []service{}
	for s := range m.Services.All() {
		v := service{
			Hostname: s.Hostname, Resolution: s.Resolution, MeshExternal: s.External, Ports: []servicePort{},
			Attributes: serviceAttributes{
				ServiceRegistry: "External", Name: s.Name, Namespace: s.Namespace, Labels: s.Labels,
				LabelSelectors: s.Selector, ExternalName: s.ExternalName,
			},
		}
		if s.Kubernetes {
			v.Attributes.ServiceRegistry = "Kubernetes"
		}
		if len(s.Addresses) > 0 {
			v.DefaultAddress = s.Addresses[0]
			v.ClusterVIPs = map[string][]string{"Kubernetes": s.Addresses}
		}
		for _, p := range s.Ports {
			v.Ports = append(v.Ports, servicePort{p.Name, p.Number, p.Protocol})
		}
		out = append(out, v)
	}
	return out
}
