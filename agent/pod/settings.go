package pod

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/identity"
)

// Where injection mounts things in a pod.
const (
	configDir     = "/etc/istio/proxy"
	podDir        = "/etc/istio/pod" // downward API
	meshFile      = "/etc/istio/config/mesh"
	rootsFile     = "/var/run/secrets/istio/root-cert.pem"
	revokedFile   = "/var/run/secrets/istio/crl/ca-crl.pem"
	tokenFile     = "/var/run/secrets/tokens/istio-token"
	secretSocket  = "/var/run/secrets/workload-spiffe-uds/socket"
	credentialDir = "/var/run/secrets/workload-spiffe-credentials"
	mountedDir    = "/etc/certs"
)

// The types of proxies.
const (
	Sidecar = "sidecar"
	Router  = "router" // a gateway
)

// Options are the command line's part of what the agent is to do.
type Options struct {
	Type   string // Sidecar or Router
	Domain string // <namespace>.svc.<suffix>
	// Environ is the process's environment.
	Environ []string
	// Root is put before every path of a file; empty but in tests.
	Root string
	// Version is the agent's own.
	Version string

	LogLevel, ComponentLogLevel string // Envoy's
	Concurrency                 int    // 0: what the proxy's configuration says
	OutlierLog                  string
	// Addresses are the pod's own besides INSTANCE_IP; nil asks the kernel.
	Addresses []string
}

// settings is what follows from Options, environment and files.
type settings struct {
	Options
	env   map[string]string
	node  agent.Node
	proxy proxyConfig

	ca          string // host:port of the certificate authority
	trustDomain string
	caRoots     string // file, empty for the system's
	roots       string // file of the authorities that the mesh trusts
	clusterID   string
	lifetime    time.Duration // of certificates
	rsaBits     int
	// mounted is a certificate that somebody else keeps; nil for none.
	mounted *identity.Files
	output  identity.Output
	// provisioned is a folder with a certificate to ask for the first one with,
	// where there is no token; empty for none.
	provisioned string

	exitOnZero   bool // wait for the last connection rather than for a time
	minimumDrain time.Duration

	statistics statistics
}

func (s *settings) file(path string) string { return filepath.Join(s.Root, path) }

func readSettings(o Options) (*settings, error) {
	s := &settings{Options: o, env: map[string]string{}}
	for _, kv := range o.Environ {
		k, v, _ := strings.Cut(kv, "=")
		s.env[k] = v
	}
	annotations, err := s.downward("annotations")
	if err != nil {
		return nil, err
	}
	if err := s.readProxyConfig(annotations); err != nil {
		return nil, err
	}
	if err := s.readStatistics(annotations); err != nil {
		return nil, err
	}
	if err := s.readNode(annotations); err != nil {
		return nil, err
	}
	return s, s.readRest()
}

// get returns a variable, which may also be set as proxy metadata.
func (s *settings) get(name, otherwise string) string {
	if v, ok := s.env[name]; ok && v != "" {
		return v
	}
	if v := s.proxy.ProxyMetadata[name]; v != "" {
		return v
	}
	return otherwise
}

func (s *settings) duration(name string, otherwise time.Duration) (time.Duration, error) {
	v := s.get(name, "")
	if v == "" {
		return otherwise, nil
	}
	d, err := time.ParseDuration(v)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("environment %s=%q: want a duration such as 10s", name, v)
	}
	return d, nil
}

func (s *settings) truth(name string) bool {
	b, _ := strconv.ParseBool(s.get(name, ""))
	return b
}

func (s *settings) readRest() (err error) {
	s.ca = s.get("CA_ADDR", s.proxy.DiscoveryAddress)
	s.roots = s.file(rootsFile)
	s.trustDomain = s.get("TRUST_DOMAIN", "cluster.local")
	s.clusterID = s.get("ISTIO_META_CLUSTER_ID", "Kubernetes")
	s.exitOnZero = s.truth("EXIT_ON_ZERO_ACTIVE_CONNECTIONS")
	if s.minimumDrain, err = s.duration("MINIMUM_DRAIN_DURATION", 5*time.Second); err != nil {
		return err
	}
	if s.lifetime, err = s.duration("SECRET_TTL", 24*time.Hour); err != nil {
		return err
	}
	if v := s.get("WORKLOAD_RSA_KEY_SIZE", ""); v != "" && s.get("ECC_SIGNATURE_ALGORITHM", "") == "" {
		if s.rsaBits, err = strconv.Atoi(v); err != nil || s.rsaBits < 2048 || s.rsaBits > 8192 {
			return fmt.Errorf("environment WORKLOAD_RSA_KEY_SIZE=%q: want 2048 to 8192", v)
		}
	}
	switch p := s.get("PILOT_CERT_PROVIDER", "istiod"); p {
	case "istiod", "custom":
		s.caRoots = s.file(s.get("CA_ROOT_CA", rootsFile))
	case "kubernetes":
		s.caRoots = s.file("/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
	case "system", "none":
	default:
		return fmt.Errorf("environment PILOT_CERT_PROVIDER=%q: want istiod, kubernetes, custom, system or none", p)
	}
	return s.readCertificates()
}

func (s *settings) identity() string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", s.trustDomain, s.node.Namespace, s.node.ServiceAccount)
}

// readNode makes the node: the pod's downward API, and every ISTIO_META_
// variable as it is.
func (s *settings) readNode(annotations map[string]string) error {
	labels, err := s.downward("labels")
	if err != nil {
		return err
	}
	delete(labels, "pod-template-hash")
	n := &s.node
	*n = agent.Node{
		ProxyConfig: n.ProxyConfig,
		Type:        s.Type, Name: s.env["POD_NAME"], Namespace: s.env["POD_NAMESPACE"], DomainSuffix: "cluster.local",
		Labels: labels, Annotations: annotations, ServiceAccount: s.get("SERVICE_ACCOUNT", "default"),
		Workload: s.get("ISTIO_META_WORKLOAD_NAME", ""), Certificates: true,
		Metadata: map[string]any{"ISTIO_VERSION": s.Version, "CLUSTER_ID": "Kubernetes"},
	}
	if n.Name == "" || n.Namespace == "" {
		return fmt.Errorf("environment POD_NAME=%q POD_NAMESPACE=%q: both must be set", n.Name, n.Namespace)
	}
	if suffix, ok := strings.CutPrefix(s.Domain, n.Namespace+".svc."); ok && suffix != "" {
		n.DomainSuffix = suffix
	} else if s.Domain != "" {
		return fmt.Errorf("--domain %q: want %s.svc.<suffix>", s.Domain, n.Namespace)
	}
	if n.IPs, err = s.addresses(); err != nil {
		return err
	}
	s.addMetadata()
	n.ServiceCluster = s.serviceCluster()
	if _, set := n.Metadata["MESH_ID"]; !set && s.proxy.MeshID != "" {
		n.Metadata["MESH_ID"] = s.proxy.MeshID
	}
	if l := strings.SplitN(strings.ReplaceAll(labels["istio-locality"], ".", "/"), "/", 3); l[0] != "" {
		l = append(l, "", "")
		n.Locality = agent.Locality{Region: l[0], Zone: l[1], Subzone: l[2]}
	}
	return nil
}

func (s *settings) addMetadata() {
	const prefix, jsonPrefix = "ISTIO_META_", "ISTIO_METAJSON_"
	for k, v := range s.proxy.ProxyMetadata {
		if key, ok := strings.CutPrefix(k, prefix); ok {
			s.node.Metadata[key] = v
		}
	}
	for k, v := range s.env {
		if key, ok := strings.CutPrefix(k, prefix); ok {
			s.node.Metadata[key] = v
		}
		if _, ok := strings.CutPrefix(k, jsonPrefix); ok {
			var more map[string]any
			if json.Unmarshal([]byte(v), &more) == nil {
				for key, v := range more {
					s.node.Metadata[key] = v
				}
			}
		}
	}
	if s.truth("EXIT_ON_ZERO_ACTIVE_CONNECTIONS") {
		s.node.Metadata["EXIT_ON_ZERO_ACTIVE_CONNECTIONS"] = "true"
	}
}

// addresses are the pod's: INSTANCE_IP first, then those of its interfaces.
func (s *settings) addresses() ([]string, error) {
	var out []string
	for _, ip := range strings.Split(s.env["INSTANCE_IP"], ",") {
		if ip = strings.TrimSpace(ip); ip == "" {
			continue
		}
		if _, err := netip.ParseAddr(ip); err != nil {
			return nil, fmt.Errorf("environment INSTANCE_IP: %w", err)
		}
		out = append(out, ip)
	}
	more := s.Addresses
	if more == nil {
		more = interfaceAddresses()
	}
	for _, a := range more {
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("the pod has no address: INSTANCE_IP is not set and no interface has one")
	}
	return out, nil
}

// interfaceAddresses leaves out the loopback's: redirection may have given it
// some (::6) that are not the pod's.
func interfaceAddresses() []string {
	var out []string
	links, _ := net.Interfaces() // without any, INSTANCE_IP must do
	for _, l := range links {
		if l.Flags&net.FlagLoopback != 0 {
			continue
		}
		all, _ := l.Addrs()
		for _, a := range all {
			if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
				out = append(out, p.Addr().String())
			}
		}
	}
	return out
}

// families tells which IP versions the pod has.
func (s *settings) families() (v4, v6 bool) {
	for _, ip := range s.node.IPs {
		if a, err := netip.ParseAddr(ip); err == nil {
			v4, v6 = v4 || a.Is4(), v6 || a.Is6()
		}
	}
	return v4, v6
}

// downward reads a file of the downward API: lines of key="quoted value".
func (s *settings) downward(name string) (map[string]string, error) {
	b, err := os.ReadFile(s.file(filepath.Join(podDir, name)))
	if os.IsNotExist(err) {
		return map[string]string{}, nil
	}
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for _, line := range strings.Split(string(b), "\n") {
		k, v, ok := strings.Cut(line, "=")
		if !ok {
			continue
		}
		if out[k], err = strconv.Unquote(v); err != nil {
			return nil, fmt.Errorf("%s/%s: value of %s: %w", podDir, name, k, err)
		}
	}
	return out, nil
}
