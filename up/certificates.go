package up

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"istio.io/api/label"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/agent/identity"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
)

// newAuthority is what signs the pods' certificates, as long as the mesh runs:
// that of Secret cacerts, as in a cluster, or one that lives only in memory.
func newAuthority(m *config.Mesh) (*ca.Authority, error) {
	for _, s := range m.Secrets.In(m.RootNamespace()) {
		if s.Name != ca.PlugInSecret {
			continue
		}
		root, err := ca.PlugIn(s.Data, time.Now())
		if err != nil {
			return nil, fmt.Errorf("Secret %s: %w", s.Key, err) //nolint:staticcheck // a kind's name
		}
		return ca.NewAuthority(root, ca.Options{}), nil
	}
	root, err := ca.SelfSigned("pilotfish up")
	if err != nil {
		return nil, err
	}
	return ca.NewAuthority(root, ca.Options{}), nil
}

// trustDomain is that of the mesh's identities.
func trustDomain(m *config.Mesh) string {
	if d := m.Settings.Mesh.GetTrustDomain(); d != "" {
		return d
	}
	return config.DefaultMeshConfig().GetTrustDomain()
}

// account is the service account that a pod runs as.
func (p *podPlan) account() string {
	if a := p.workload.ServiceAccount; a != "" {
		return a
	}
	return "default"
}

// certified is what serves a pod's proxy its certificate.
type certified struct {
	listener net.Listener
	source   *identity.Source
	stop     func()
}

// certify gives a pod a certificate in the name of its account, served on a
// socket in dir that only the proxy can open.
func (s *surroundings) certify(p *podPlan, dir string, proxy user) (*certified, agent.Address, error) {
	id := ca.Identity{TrustDomain: p.trustDomain, Namespace: p.workload.Namespace, ServiceAccount: p.account()}
	source := identity.New(identity.Options{Identity: id.String(), Signer: signer{s.authority, id}})
	path := filepath.Join(dir, "sds.sock")
	if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
		return nil, agent.Address{}, err
	}
	l, err := identity.Listen(path, int(proxy.id))
	if err != nil {
		return nil, agent.Address{}, fmt.Errorf("certificates of %s: %w", p.key(), err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		source.Run(ctx)
	}()
	end := source.Serve(l)
	return &certified{listener: l, source: source, stop: func() {
		end()
		cancel()
		<-done
	}}, agent.Address{Path: path}, nil
}

// close may be called on nil, and again.
func (c *certified) close() {
	if c != nil && c.stop != nil {
		c.stop()
		c.stop = nil
	}
}

// signer has the mesh's authority sign for one identity: whoever asks runs
// here.
type signer struct {
	authority *ca.Authority
	id        ca.Identity
}

// Sign implements identity.Signer.
func (s signer) Sign(_ context.Context, request []byte) ([]string, error) {
	return s.authority.Sign(request, s.id, 0)
}

// tlsModeLabel says that a pod takes mesh TLS.
var tlsModeLabel = label.SecurityTlsMode.Name

// hasSidecar is asked by the source: a pod's sidecar takes mesh TLS once it is
// ready.
func (m *Mesh) hasSidecar(key config.Key) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	p := m.pods[key.Namespace+"/"+key.Name]
	return p != nil && p.plan.role == sidecar
}

// Authority signs the certificates of the mesh's proxies.
func (m *Mesh) Authority() *ca.Authority { return m.around.authority }
