package serve

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// configDump is what one proxy (query parameter proxyID) was sent, in the form
// of Envoy's own config dump; the query parameter types, such as eds,rds, asks
// for the bare resources of these types instead.
func (p *Pages) configDump(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	id := q.Get("proxyID")
	if id == "" {
		http.Error(w, "You must provide a proxyID in the query string: a node id, or name.namespace", http.StatusBadRequest)
		return
	}
	for _, s := range p.proxies(r) {
		if !named(s.Proxy, id) {
			continue
		}
		sent := p.Plane.Server.Config(s.Proxy.ID)
		var dump *admin.ConfigDump
		var err error
		if types := q.Get("types"); types != "" {
			dump, err = p.Plane.hidden.bareDump(sent, strings.Split(types, ","))
		} else {
			dump, err = p.Plane.hidden.dumpOf(sent, s.Types)
		}
		var b []byte
		if err == nil {
			b, err = protojson.Marshal(dump)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, r, json.RawMessage(b))
		return
	}
	notConnected(w, id)
}

// typedDump is configDump of one type.
func (p *Pages) typedDump(short string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		q.Set("types", short)
		r = r.Clone(r.Context())
		r.URL.RawQuery = q.Encode()
		p.configDump(w, r)
	}
}

var shortTypes = map[string]string{
	"cds": translate.ClusterType, "eds": translate.EndpointType, "lds": translate.ListenerType, "rds": translate.RouteType,
	"ecds": translate.ExtensionType, "sds": translate.SecretType, "nds": translate.NameTableType,
}

// bareDump holds the resources of some types, by short name or type URL.
func (h *hidden) bareDump(config []snapshot.Sent, types []string) (*admin.ConfigDump, error) {
	dump := &admin.ConfigDump{}
	for _, sent := range config {
		if !slices.ContainsFunc(types, func(t string) bool { return t == sent.Type || shortTypes[strings.ToLower(t)] == sent.Type }) {
			continue
		}
		for _, r := range sent.Resources {
			body, err := h.shown(sent.Type, r)
			if err != nil {
				return nil, err
			}
			dump.Configs = append(dump.Configs, body)
		}
	}
	return dump, nil
}

func (h *hidden) dumpOf(config []snapshot.Sent, types []snapshot.TypeStatus) (*admin.ConfigDump, error) {
	parts, err := h.partsOf(config, types)
	if err != nil {
		return nil, err
	}
	dump := &admin.ConfigDump{}
	for _, part := range parts {
		a, err := anypb.New(part)
		if err != nil {
			return nil, err
		}
		dump.Configs = append(dump.Configs, a)
	}
	return dump, nil
}

// partsOf are the parts of a ConfigDump.
func (h *hidden) partsOf(config []snapshot.Sent, types []snapshot.TypeStatus) ([]proto.Message, error) {
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
			body, err := h.shown(sent.Type, r)
			if err != nil {
				return nil, err
			}
			version, when := r.Version.String(), at[sent.Type]
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
				secrets.DynamicActiveSecrets = append(secrets.DynamicActiveSecrets,
					&admin.SecretsConfigDump_DynamicSecret{Name: r.Name, VersionInfo: version, Secret: body, LastUpdated: when})
			}
		}
	}
	return []proto.Message{clusters, endpoints, listeners, routes, secrets, extensions}, nil
}

// shown is a resource with nothing of it that is secret.
func (h *hidden) shown(typeURL string, r *translate.Resource) (*anypb.Any, error) {
	body := &anypb.Any{TypeUrl: typeURL, Value: r.Bytes()}
	if typeURL == translate.SecretType {
		return redact(body)
	}
	return h.resource(body)
}

var redacted = &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: redactedText}}

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
