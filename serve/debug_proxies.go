package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// proxyPages are the pages about connected proxies.
func (p *Pages) proxyPages(mux *http.ServeMux) {
	mux.HandleFunc("GET /debug/syncz", p.syncz)
	mux.HandleFunc("GET /debug/adsz", p.adsz)
	mux.HandleFunc("GET /debug/config_dump", p.configDump)
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
	for _, s := range p.Plane.Server.Proxies() {
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
	for _, s := range p.Plane.Server.Proxies() {
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

func notConnected(w http.ResponseWriter, id string) {
	http.Error(w, fmt.Sprintf("proxy %q is not connected to this control plane; want its node id, or name.namespace", id), http.StatusNotFound)
}

// configDump is what one proxy (query parameter proxyID) was sent, in the form
// of Envoy's own config dump.
func (p *Pages) configDump(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("proxyID")
	if id == "" {
		http.Error(w, "want the query parameter proxyID: a node id, or name.namespace", http.StatusBadRequest)
		return
	}
	for _, s := range p.Plane.Server.Proxies() {
		if !named(s.Proxy, id) {
			continue
		}
		dump, err := dumpOf(p.Plane.Server.Config(s.Proxy.ID), s.Types)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		b, err := protojson.Marshal(dump)
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, r, json.RawMessage(b))
		return
	}
	notConnected(w, id)
}

func dumpOf(config []snapshot.Sent, types []snapshot.TypeStatus) (*admin.ConfigDump, error) {
	at := map[string]*timestamppb.Timestamp{}
	for _, t := range types {
		if !t.SentAt.IsZero() {
			at[t.Type] = timestamppb.New(t.SentAt)
		}
	}
	clusters, listeners, routes := &admin.ClustersConfigDump{}, &admin.ListenersConfigDump{}, &admin.RoutesConfigDump{}
	endpoints, secrets := &admin.EndpointsConfigDump{}, &admin.SecretsConfigDump{}
	extensions := &admin.EcdsConfigDump{}
	for _, sent := range config {
		for _, r := range sent.Resources {
			body, version, when := &anypb.Any{TypeUrl: sent.Type, Value: r.Bytes()}, r.Version.String(), at[sent.Type]
			switch sent.Type {
			case translate.ClusterType:
				clusters.DynamicActiveClusters = append(clusters.DynamicActiveClusters,
					&admin.ClustersConfigDump_DynamicCluster{VersionInfo: version, Cluster: body, LastUpdated: when})
			case translate.ListenerType:
				listeners.DynamicListeners = append(listeners.DynamicListeners, &admin.ListenersConfigDump_DynamicListener{
					Name:        r.Name,
					ActiveState: &admin.ListenersConfigDump_DynamicListenerState{VersionInfo: version, Listener: body, LastUpdated: when},
				})
			case translate.RouteType:
				routes.DynamicRouteConfigs = append(routes.DynamicRouteConfigs,
					&admin.RoutesConfigDump_DynamicRouteConfig{VersionInfo: version, RouteConfig: body, LastUpdated: when})
			case translate.EndpointType:
				endpoints.DynamicEndpointConfigs = append(endpoints.DynamicEndpointConfigs,
					&admin.EndpointsConfigDump_DynamicEndpointConfig{VersionInfo: version, EndpointConfig: body, LastUpdated: when})
			case translate.ExtensionType:
				extensions.EcdsFilters = append(extensions.EcdsFilters,
					&admin.EcdsConfigDump_EcdsFilterConfig{VersionInfo: version, EcdsFilter: body, LastUpdated: when})
			case translate.SecretType:
				redacted, err := redact(body)
				if err != nil {
					return nil, err
				}
				secrets.DynamicActiveSecrets = append(secrets.DynamicActiveSecrets,
					&admin.SecretsConfigDump_DynamicSecret{Name: r.Name, VersionInfo: version, Secret: redacted, LastUpdated: when})
			}
		}
	}
	dump := &admin.ConfigDump{}
	for _, part := range []proto.Message{clusters, endpoints, listeners, routes, secrets, extensions} {
		a, err := anypb.New(part)
		if err != nil {
			return nil, err
		}
		dump.Configs = append(dump.Configs, a)
	}
	return dump, nil
}

var redacted = &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: "[redacted]"}}

// redact is a Secret with nothing of it that is secret.
func redact(body *anypb.Any) (*anypb.Any, error) {
	s := &tls.Secret{}
	if err := body.UnmarshalTo(s); err != nil {
		return nil, fmt.Errorf("a secret that cannot be read: %w", err)
	}
	switch t := s.GetType().(type) {
	case *tls.Secret_TlsCertificate:
		c := t.TlsCertificate
		s.Type = &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{
			CertificateChain: c.GetCertificateChain(), PrivateKey: redacted,
		}}
	case *tls.Secret_ValidationContext: // public
	default: // session tickets and generic secrets
		s.Type = &tls.Secret_GenericSecret{GenericSecret: &tls.GenericSecret{Secret: redacted}}
	}
	return anypb.New(s)
}
