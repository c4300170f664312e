package serve

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	admin "github.com/envoyproxy/go-control-plane/envoy/admin/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	envoystatus "github.com/envoyproxy/go-control-plane/envoy/service/status/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// The types under which Istio's tools ask over ADS.
const (
	// debugType: the one name is a debug page with its query, the resource
	// what the page says.
	debugType = "istio.io/debug"
	// syncType: how far every proxy is, as ClientConfigs.
	syncType = debugType + "/syncz"
	// dumpType: the parts of a ConfigDump of the one named proxy.
	dumpType = debugType + "/config_dump"
)

// tools answers Istio's tools over ADS, to clients that have proven who they
// are: those of the control plane's own namespace about every proxy, others
// about their own namespace's.
type tools struct {
	plane      *Plane
	pages      http.Handler // the debug pages
	namespaces []string     // the control plane's own, and others that may see all
	open       bool         // everybody may see all
	identity   string       // istioControlPlane as JSON
}

// istioControlPlane is how a control plane identifies itself to Istio's tools.
type istioControlPlane struct {
	Component string
	ID        string
	Info      istioBuild
}

// istioBuild is a program's version as Istio's tools read it.
type istioBuild struct {
	Version  string `json:"version"`
	Revision string `json:"revision"`
	Go       string `json:"golang_version"`
	Status   string `json:"status"`
	Tag      string `json:"tag"`
}

func (b Build) istio() istioBuild {
	return istioBuild{Version: b.Version, Revision: b.Version, Go: b.Go, Status: "unknown", Tag: b.Version}
}

func newTools(plane *Plane, pages http.Handler, o *Options) (*tools, error) {
	id, err := json.Marshal(istioControlPlane{"pilotfish", o.identity(), o.Build.istio()})
	if err != nil {
		return nil, err
	}
	return &tools{plane: plane, pages: pages, namespaces: append([]string{o.namespace()}, o.DebugNamespaces...), open: o.OpenDebug, identity: string(id)}, nil
}

// elsewherePages are those of which callers from other namespaces may see
// their own proxies' part.
var elsewherePages = []string{"config_dump", "edsz", "ndsz"}

// caller is the namespace whose proxies a client may see, empty for all.
func (t *tools) caller(q *snapshot.Question) (string, error) {
	switch {
	case t.open:
		return "", nil
	case q.ServiceAccount == "":
		return "", status.Error(codes.Unauthenticated, "debug information is for clients that have proven who they are: connect over TLS, with a token or a certificate")
	case slices.Contains(t.namespaces, q.Proxy.Namespace):
		return "", nil
	}
	return q.Proxy.Namespace, nil
}

// answer implements snapshot.Answer for the three types.
func (t *tools) answer(ctx context.Context, q snapshot.Question) (snapshot.Reply, error) {
	namespace, err := t.caller(&q)
	if err != nil {
		return snapshot.Reply{}, err
	}
	switch q.Type {
	case syncType:
		return t.sync(namespace)
	case dumpType:
		return t.dump(q.Names, namespace)
	}
	return t.page(ctx, q.Names, namespace)
}

func (t *tools) sync(namespace string) (snapshot.Reply, error) {
	out := snapshot.Reply{ControlPlane: t.identity}
	for _, s := range t.plane.Server.Proxies() {
		if namespace != "" && s.Proxy.Namespace != namespace {
			continue
		}
		c, err := clientConfig(&s)
		if err != nil {
			return out, err
		}
		if err := add(&out, s.Proxy.ID, c); err != nil {
			return out, err
		}
	}
	return out, nil
}

// add appends a message to a Reply.
func add(to *snapshot.Reply, name string, m proto.Message) error {
	r, err := translate.NewResource(name, m, translate.Refs{})
	if err == nil {
		to.Resources = append(to.Resources, snapshot.Part{
			Resource: r, Type: "type.googleapis.com/" + string(m.ProtoReflect().Descriptor().FullName()),
		})
	}
	return err
}

var configStatus = map[snapshot.Sync]envoystatus.ConfigStatus{
	snapshot.NotSent: envoystatus.ConfigStatus_NOT_SENT, snapshot.Synced: envoystatus.ConfigStatus_SYNCED,
	snapshot.Stale: envoystatus.ConfigStatus_STALE, snapshot.Failed: envoystatus.ConfigStatus_ERROR,
}

// clientConfig is one proxy's state in the form of Envoy's client status
// discovery service.
func clientConfig(s *snapshot.ProxyStatus) (*envoystatus.ClientConfig, error) {
	md, err := structpb.NewStruct(map[string]any{
		"CLUSTER_ID": s.Proxy.Cluster, "NAMESPACE": s.Proxy.Namespace, "ISTIO_VERSION": s.Proxy.Raw["ISTIO_VERSION"],
	})
	if err != nil {
		return nil, err
	}
	c := &envoystatus.ClientConfig{Node: &core.Node{Id: s.Proxy.ID, Metadata: md}}
	for _, t := range s.Types {
		if t.Sync == snapshot.NotSent && t.Sent == "" {
			continue
		}
		one := &envoystatus.ClientConfig_GenericXdsConfig{
			TypeUrl: t.Type, VersionInfo: t.Sent, ConfigStatus: configStatus[t.Sync],
		}
		if !t.SentAt.IsZero() {
			one.LastUpdated = timestamppb.New(t.SentAt)
		}
		if t.Error != "" {
			one.ErrorState = &admin.UpdateFailureState{Details: t.Error, LastUpdateAttempt: one.LastUpdated}
		}
		c.GenericXdsConfigs = append(c.GenericXdsConfigs, one)
	}
	slices.SortFunc(c.GenericXdsConfigs, func(a, b *envoystatus.ClientConfig_GenericXdsConfig) int {
		return strings.Compare(a.TypeUrl, b.TypeUrl)
	})
	return c, nil
}

// dump says of a proxy that is not connected here that it is not: by that word
// istioctl asks the next replica, and takes an answer with nothing for the last.
func (t *tools) dump(names []string, namespace string) (snapshot.Reply, error) {
	out := snapshot.Reply{ControlPlane: t.identity}
	if len(names) != 1 {
		return out, status.Error(codes.InvalidArgument, "want one name: a node id, or name.namespace")
	}
	for _, s := range t.plane.Server.Proxies() {
		if !named(s.Proxy, names[0]) || namespace != "" && s.Proxy.Namespace != namespace {
			continue
		}
		parts, err := t.plane.hidden.partsOf(t.plane.Server.Config(s.Proxy.ID), s.Types)
		if err != nil {
			return out, err
		}
		for _, part := range parts {
			if err := add(&out, string(part.ProtoReflect().Descriptor().Name()), part); err != nil {
				return out, err
			}
		}
		return out, nil
	}
	out.Resources = []snapshot.Part{{Resource: &translate.Resource{Name: names[0], Body: [][]byte{[]byte(elsewhereText)}}}}
	return out, nil
}

// page answers with what a debug page says.
func (t *tools) page(ctx context.Context, names []string, namespace string) (snapshot.Reply, error) {
	out := snapshot.Reply{ControlPlane: t.identity}
	if len(names) != 1 {
		return out, status.Error(codes.InvalidArgument, "want one name: a debug page, such as syncz")
	}
	u, err := url.Parse(names[0])
	if err != nil || u.Host != "" || u.Scheme != "" {
		return out, status.Errorf(codes.InvalidArgument, "%q is no debug page with a query", names[0])
	}
	if namespace != "" && !slices.Contains(elsewherePages, u.Path) {
		return out, status.Errorf(codes.PermissionDenied, "%s is for clients of namespace %s; yours is %s", u.Path, t.namespaces[0], namespace)
	}
	r, err := http.NewRequestWithContext(context.WithValue(ctx, callerKey{}, namespace), http.MethodGet, "/debug/"+u.String(), nil)
	if err != nil {
		return out, status.Error(codes.InvalidArgument, err.Error())
	}
	said := pageText{header: http.Header{}}
	t.pages.ServeHTTP(&said, r)
	out.Resources = []snapshot.Part{{Resource: &translate.Resource{Name: names[0], Body: [][]byte{said.body.Bytes()}}}}
	return out, nil
}

// pageText takes what a page says; also errors are for the client to read.
type pageText struct {
	header http.Header
	body   bytes.Buffer
}

func (p *pageText) Header() http.Header         { return p.header }
func (p *pageText) Write(b []byte) (int, error) { return p.body.Write(b) }
func (p *pageText) WriteHeader(int)             {}
