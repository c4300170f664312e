package serve

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// proxyPages are the pages about connected proxies.
func (p *Pages) proxyPages() []debugPage {
	return []debugPage{
		{"syncz", p.syncz},
		{"adsz", p.adsz},
		{"connections", p.connections},
		{"config_dump", p.configDump},
		{"config_distribution", p.configDistribution},
		{"edsz", p.typedDump("eds")},
		{"ecdsz", p.typedDump("ecds")},
		{"ndsz", p.typedDump("nds")},
	}
}

// callerKey is the key of a request's caller: the one namespace whose proxies
// it may see, empty or absent for all.
type callerKey struct{}

// proxies are those that a request's caller may see.
func (p *Pages) proxies(r *http.Request) []snapshot.ProxyStatus {
	all := p.Plane.Server.Proxies()
	if of, _ := r.Context().Value(callerKey{}).(string); of != "" {
		all = slices.DeleteFunc(all, func(s snapshot.ProxyStatus) bool { return s.Proxy.Namespace != of })
	}
	return all
}

// syncStatus is how far one proxy is, in istiod's shape.
type syncStatus struct {
	ClusterID            string                    `json:"cluster_id,omitempty"`
	ProxyID              string                    `json:"proxy,omitempty"`
	ProxyType            config.ProxyType          `json:"proxy_type,omitempty"`
	ProxyVersion         string                    `json:"proxy_version,omitempty"`
	IstioVersion         string                    `json:"istio_version,omitempty"`
	ClusterSent          string                    `json:"cluster_sent,omitempty"`
	ClusterAcked         string                    `json:"cluster_acked,omitempty"`
	ListenerSent         string                    `json:"listener_sent,omitempty"`
	ListenerAcked        string                    `json:"listener_acked,omitempty"`
	RouteSent            string                    `json:"route_sent,omitempty"`
	RouteAcked           string                    `json:"route_acked,omitempty"`
	EndpointSent         string                    `json:"endpoint_sent,omitempty"`
	EndpointAcked        string                    `json:"endpoint_acked,omitempty"`
	ExtensionConfigSent  string                    `json:"extensionconfig_sent,omitempty"`
	ExtensionConfigAcked string                    `json:"extensionconfig_acked,omitempty"`
	Resources            map[string]resourceStatus `json:"resources,omitempty"`
	// Sync is the worst state of all types; istiod has no such field.
	Sync snapshot.Sync `json:"sync"`
}

type resourceStatus struct {
	Sent      string        `json:"sent,omitempty"`
	Acked     string        `json:"acked,omitempty"`
	SentTime  *time.Time    `json:"sentTime,omitempty"`
	LastError string        `json:"lastError,omitempty"`
	Sync      snapshot.Sync `json:"sync"`
}

// syncz lists the connected proxies; the query parameter namespace limits it.
func (p *Pages) syncz(w http.ResponseWriter, r *http.Request) {
	out := []syncStatus{}
	ns := r.URL.Query().Get("namespace")
	for _, s := range p.proxies(r) {
		if ns == "" || s.Proxy.Namespace == ns {
			out = append(out, syncOf(&s))
		}
	}
	writeJSON(w, r, out)
}

func syncOf(s *snapshot.ProxyStatus) syncStatus {
	v := syncStatus{
		ClusterID: s.Proxy.Cluster, ProxyID: s.Proxy.ID, ProxyType: s.Proxy.Type, ProxyVersion: s.Proxy.EnvoyVersion,
		IstioVersion: s.Proxy.Raw["ISTIO_VERSION"], Resources: map[string]resourceStatus{}, Sync: s.Sync(),
	}
	for _, t := range s.Types {
		switch t.Type {
		case translate.ClusterType:
			v.ClusterSent, v.ClusterAcked = t.Sent, t.Acked
		case translate.ListenerType:
			v.ListenerSent, v.ListenerAcked = t.Sent, t.Acked
		case translate.RouteType:
			v.RouteSent, v.RouteAcked = t.Sent, t.Acked
		case translate.EndpointType:
			v.EndpointSent, v.EndpointAcked = t.Sent, t.Acked
		case translate.ExtensionType:
			v.ExtensionConfigSent, v.ExtensionConfigAcked = t.Sent, t.Acked
		}
		if t.Sync == snapshot.NotSent && t.Sent == "" {
			continue
		}
		status := resourceStatus{Sent: t.Sent, Acked: t.Acked, LastError: t.Error, Sync: t.Sync}
		if !t.SentAt.IsZero() {
			status.SentTime = &t.SentAt
		}
		v.Resources[t.Type] = status
	}
	return v
}

type adsClients struct {
	Total     int         `json:"totalClients"`
	Connected []adsClient `json:"clients,omitempty"`
}

type adsClient struct {
	ConnectionID string              `json:"connectionId"`
	ConnectedAt  time.Time           `json:"connectedAt"`
	Labels       map[string]string   `json:"labels,omitempty"`
	Metadata     map[string]any      `json:"metadata,omitempty"`
	Locality     *core.Locality      `json:"locality,omitempty"`
	Watches      map[string][]string `json:"watches,omitempty"`
	Protocol     string              `json:"protocol"` // delta or sotw
}

// adsz lists the connected proxies with what they have; the query parameter
// proxyID chooses one.
func (p *Pages) adsz(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("proxyID")
	out := adsClients{}
	for _, s := range p.proxies(r) {
		if id == "" || named(s.Proxy, id) {
			out.Connected = append(out.Connected, p.adsClient(&s))
		}
	}
	out.Total = len(out.Connected)
	if id != "" && out.Total == 0 {
		notConnected(w, id)
		return
	}
	writeJSON(w, r, out)
}

func (p *Pages) adsClient(s *snapshot.ProxyStatus) adsClient {
	x := s.Proxy
	c := adsClient{
		ConnectionID: x.ID, ConnectedAt: s.Connected, Labels: x.Labels, Protocol: s.Protocol, Watches: map[string][]string{},
		Metadata: map[string]any{
			"NAMESPACE": x.Namespace, "LABELS": x.Labels, "CLUSTER_ID": x.Cluster, "INTERCEPTION_MODE": x.Interception,
			"SERVICE_ACCOUNT": x.ServiceAccount, "WORKLOAD_NAME": x.Workload, "INSTANCE_IPS": strings.Join(x.IPs, ","),
		},
	}
	if l := x.Locality; l != (config.Locality{}) {
		c.Locality = &core.Locality{Region: l.Region, Zone: l.Zone, SubZone: l.Subzone}
	}
	for _, sent := range p.Plane.Server.Config(x.ID) {
		names := []string{}
		for _, res := range sent.Resources {
			names = append(names, res.Name)
		}
		c.Watches[sent.Type] = names
	}
	return c
}

// named reports whether an id given by a person means the proxy: the node id,
// or name.namespace.
func named(p *config.Proxy, id string) bool { return p.ID == id || p.Name+"."+p.Namespace == id }

// elsewhereText has istioctl ask the next replica.
const elsewhereText = "Proxy not connected to this Pilot instance. It may be connected to another instance."

func notConnected(w http.ResponseWriter, id string) {
	http.Error(w, fmt.Sprintf("%s\nproxyID=%q; want a node id, or name.namespace", elsewhereText, id), http.StatusNotFound)
}

// connections lists who is connected, and no more of them.
func (p *Pages) connections(w http.ResponseWriter, r *http.Request) {
	out := adsClients{}
	for _, s := range p.proxies(r) {
		out.Connected = append(out.Connected, adsClient{ConnectionID: s.Proxy.ID, ConnectedAt: s.Connected, Protocol: s.Protocol})
	}
	out.Total = len(out.Connected)
	writeJSON(w, r, out)
}
