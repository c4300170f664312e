package simulate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"strings"
	"sync"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"istio.io/api/annotation"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// World is a whole mesh, ready to be asked. A proxy's configuration is
// translated when it is first needed. Safe for concurrent use.
type World struct {
	Mesh  *config.Mesh
	Index *translate.Index

	// What other states of the configuration share.
	translator *translate.Translator
	pieces     *pieces

	pods      []*Pod // by namespace and name
	byAddress map[netip.Addr]*Pod

	mu    sync.Mutex // guards what follows
	parts map[translate.Class]*classPart
	// servers is what Serves found, "" for a host that nobody has routes for.
	servers map[hosted]string

	// expected are the Secrets and ConfigMaps that are not taken to be there.
	expected map[config.Key]bool

	addresses sync.Once
	services  map[string]*config.Service // by virtual address; see servicesAt
}

// classPart is made when it is first needed.
type classPart struct {
	make sync.Once
	part *Part
}

// Pod is one workload of a World.
type Pod struct {
	*config.Workload
	Role config.Role
	// Address is invalid for a pod that has none.
	Address netip.Addr
	// StandIn: no folder has it; a Gateway needs it.
	StandIn bool

	once   sync.Once
	config *Config
	ports  []translate.GatewayPort
	// inbound is the class of the server's side.
	inbound translate.Class
}

// rememberedResources bounds the translator's memory.
const rememberedResources = 1 << 18

// NewWorld arranges a mesh.
func NewWorld(m *config.Mesh) *World {
	return newWorld(m, translate.NewTranslator(rememberedResources), newPieces())
}

// With arranges another state of the configuration. What the two have in
// common is translated once.
func (w *World) With(m *config.Mesh) *World { return newWorld(m, w.translator, w.pieces) }

// Expecting says that Secrets and ConfigMaps exist where the mesh has them and
// nowhere else: others that a folder does not have are taken to be there. It
// goes before the first question.
func (w *World) Expecting(keys map[config.Key]bool) *World {
	w.expected = keys
	return w
}

func newWorld(m *config.Mesh, t *translate.Translator, shared *pieces) *World {
	w := &World{translator: t, pieces: shared, byAddress: map[netip.Addr]*Pod{}, parts: map[translate.Class]*classPart{}, servers: map[hosted]string{}}
	for wl := range m.Workloads.All() {
		w.add(&Pod{Workload: wl, Role: roleOf(m, wl)})
	}
	for i, wl := range m.StandInGateways() {
		w.add(&Pod{Workload: wl, Role: config.GatewayPod, StandIn: true, Address: standInAddress(i)})
	}
	w.Mesh = injected(m, w.byAddress)
	w.Index = translate.NewIndex(w.Mesh)
	return w
}

// roleOf is the role of a workload; one of a live cluster without the label
// that injection leaves has no sidecar.
func roleOf(m *config.Mesh, w *config.Workload) config.Role {
	r := m.RoleOf(w)
	if r == config.SidecarPod && w.File == "" && w.Labels["security.istio.io/tlsMode"] == "" {
		return config.PlainPod
	}
	return r
}

// standInAddress is an address that no cluster gives (RFC 2544).
func standInAddress(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i + 1)})
}

func (w *World) add(p *Pod) {
	if len(p.IPs) > 0 {
		p.Address, _ = netip.ParseAddr(p.IPs[0])
	}
	for _, ip := range p.IPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			w.byAddress[a] = p
		}
	}
	w.pods = append(w.pods, p)
}

// Pods are all workloads' pods.
func (w *World) Pods() []*Pod { return w.pods }

// Name is "shop/web": the workload, not the pod.
func (p *Pod) Name() string { return p.Namespace + "/" + p.WorkloadName() }

// Proxy describes the pod's Envoy as its node id would.
func (w *World) Proxy(p *Pod) *config.Proxy {
	out := &config.Proxy{
		Type: config.Sidecar, Name: p.Workload.Name, Namespace: p.Namespace,
		DNSDomain: p.Namespace + ".svc." + w.Mesh.Settings.DomainSuffix,
		Labels:    p.Labels, Annotations: p.Annotations, ServiceAccount: p.ServiceAccount,
		Cluster: "Kubernetes", NodeName: p.Node, Network: p.Network, Locality: p.Locality,
		Interception: config.Redirect, Workload: p.WorkloadName(), IPs: p.IPs,
		Certificates: true, Extensions: []string{"envoy.filters.http.set_filter_state"},
	}
	if p.Role == config.GatewayPod {
		out.Type = config.Router
	}
	if own := w.ownSettings(p); own != "" {
		out.Raw = map[string]string{"PROXY_CONFIG": own}
	}
	if len(out.IPs) == 0 {
		out.IPs = []string{"192.0.2.2"}
	}
	if p.Address.IsValid() && len(p.IPs) == 0 {
		out.IPs = []string{p.Address.String()}
	}
	out.ID = fmt.Sprintf("%s~%s~%s.%s~%s", out.Type, out.IPs[0], out.Name, out.Namespace, out.DNSDomain)
	return out
}

// ownSettings is the ProxyConfig that a pod's proxy is started with, as it tells
// the control plane; empty for that of the whole mesh, and for one that cannot
// be read.
func (w *World) ownSettings(p *Pod) string {
	if _, annotated := p.Annotations[annotation.ProxyConfig.Name]; !annotated && w.Mesh.ProxyConfigs.Len() == 0 {
		return ""
	}
	base := w.Mesh.Settings.Mesh.GetDefaultConfig()
	pc, err := config.EffectiveProxyConfig(base, w.Mesh.ProxyConfigs, w.Mesh.RootNamespace(), p.Namespace, p.Labels, p.Annotations)
	if err != nil || proto.Equal(pc, base) {
		return ""
	}
	js, err := protojson.Marshal(pc)
	if err != nil {
		return ""
	}
	var canonical bytes.Buffer
	if json.Compact(&canonical, js) != nil { // the library varies the space
		return ""
	}
	return canonical.String()
}

// Config is what the pod's Envoy is sent; nil for a pod without one.
func (w *World) Config(p *Pod) *Config {
	if p.Role == config.PlainPod {
		return nil
	}
	p.once.Do(func() {
		proxy := w.Proxy(p)
		viewer := translate.ViewerOf(proxy)
		var parts []*Part
		for _, class := range w.Index.Classes(proxy) {
			p.inbound = class
			parts = append(parts, w.part(class))
			if class.Side == translate.GatewaySide {
				p.ports = w.Index.Scope(class).Gateways
			}
		}
		p.config = NewConfig(func(cluster string) *translate.Resource {
			return w.endpoints(parts, cluster, viewer)
		}, parts...)
		p.config.secrets = func(name string) *translate.Resource {
			r, _ := w.translator.Secret(w.Mesh, translate.ReaderOf(proxy), name)
			return r
		}
		p.config.lacks = func(name string) bool {
			key, ok := translate.NamedSecret(name, proxy.Namespace)
			return ok && w.expected[key] && p.config.secrets(name) == nil
		}
	})
	return p.config
}

func (w *World) part(class translate.Class) *Part {
	w.mu.Lock()
	p := w.parts[class]
	if p == nil {
		p = &classPart{}
		w.parts[class] = p
	}
	w.mu.Unlock()
	p.make.Do(func() {
		scope := w.Index.Scope(class)
		p.part = newPart(w.translator.Translate(scope), w.pieces)
		p.part.scope = scope
	})
	return p.part
}

// Prepare translates for every pod's proxy, on all processors: for those who
// need all of them.
func (w *World) Prepare() {
	next := make(chan *Pod)
	var workers sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		workers.Go(func() {
			for p := range next {
				w.Config(p)
			}
		})
	}
	for _, p := range w.pods {
		next <- p
	}
	close(next)
	workers.Wait()
}

func (w *World) endpoints(parts []*Part, cluster string, v translate.Viewer) *translate.Resource {
	for _, p := range parts {
		specs := p.resources.Endpoints
		i, ok := slices.BinarySearchFunc(specs, cluster, func(s translate.EndpointSpec, c string) int { return strings.Compare(s.Cluster, c) })
		if ok {
			eps, _ := w.Mesh.Endpoints.Get(specs[i].Service.Namespace, specs[i].Service.Hostname)
			return w.translator.Endpoints(&specs[i], eps, v)
		}
	}
	return nil
}

// Identity is the name in the certificate of a pod's workload.
func (w *World) Identity(p *Pod) string {
	account := p.ServiceAccount
	if account == "" {
		account = "default"
	}
	domain := w.Mesh.Settings.Mesh.GetTrustDomain()
	if domain == "" {
		domain = "cluster.local"
	}
	return "spiffe://" + domain + "/ns/" + p.Namespace + "/sa/" + account
}

// At is the pod of an address, or nil.
func (w *World) At(a netip.Addr) *Pod { return w.byAddress[a] }
