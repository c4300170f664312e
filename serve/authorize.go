package serve

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// Authorize decides what a stream of a mesh on one machine may be sent: all
// over a Unix socket, which only this machine's chosen users can open, nothing
// secret in plaintext, and nothing at all over TLS, which such a mesh does not
// serve.
func Authorize(ctx context.Context, _ *config.Proxy) (snapshot.Grant, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return snapshot.Grant{}, errors.New("a stream without a peer")
	}
	if _, ok := from.AuthInfo.(credentials.TLSInfo); ok {
		return snapshot.Grant{}, errors.New("there is nothing to prove identities by")
	}
	return snapshot.Grant{Secrets: from.Addr.Network() == "unix"}, nil
}

// admission decides who is let in at the secure address, and to what. A
// credential proves namespace and service account, a pod's token the pod too;
// what a proxy says of itself must agree with all of it.
type admission struct {
	callers *ca.Authenticator
	mesh    func() *config.Mesh
	// secrets says what a service account may read; nil without an API server,
	// and then a proven proxy may have its namespace's Secrets.
	secrets *secretAccess
	log     *zap.Logger
	refused *prometheus.CounterVec
}

func newAdmission(plane *Plane, callers *ca.Authenticator, secrets *secretAccess, log *zap.Logger) *admission {
	a := &admission{
		callers: callers, mesh: plane.Store.Mesh, secrets: secrets, log: log,
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "pilotfish_refused_callers_total",
			Help: "Streams and calls refused, by what was wrong: their credential, or what they claim besides it.",
		}, []string{"reason"}),
	}
	plane.Registry.MustRegister(a.refused)
	return a
}

// authorize implements snapshot.Options.Authorize.
func (a *admission) authorize(ctx context.Context, p *config.Proxy) (snapshot.Grant, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return snapshot.Grant{}, errors.New("a stream without a peer")
	}
	if _, secure := from.AuthInfo.(credentials.TLSInfo); !secure {
		return Authorize(ctx, p)
	}
	c, err := a.callers.Authenticate(ctx)
	if err != nil {
		a.refuse("credential", from, p.ID, err)
		return snapshot.Grant{}, ca.Status(err)
	}
	if err := a.agrees(c, p); err != nil {
		a.refuse("claim", from, p.ID, err)
		return snapshot.Grant{}, status.Error(codes.PermissionDenied, err.Error())
	}
	g := snapshot.Grant{Secrets: true, ServiceAccount: c.ServiceAccount}
	if a.secrets != nil {
		g.MayRead = func(ctx context.Context, namespace, name string) (bool, error) {
			return a.secrets.may(ctx, c.Identity, namespace, name)
		}
	}
	return g, nil
}

func (a *admission) refuse(reason string, from *peer.Peer, node string, err error) {
	a.refused.WithLabelValues(reason).Inc()
	a.log.Warn("refused", zap.String("reason", reason), zap.Stringer("address", from.Addr), zap.String("node", node), zap.Error(err))
}

// agrees compares what a proxy says of itself with what it has proven.
func (a *admission) agrees(c ca.Caller, p *config.Proxy) error {
	if p.Generator == snapshot.ToolGenerator {
		return a.agreesWithTool(c, p)
	}
	if parts := strings.Split(p.ID, "~"); len(parts) == 4 && parts[2] != p.Name+"."+p.Namespace {
		return fmt.Errorf("the node's id is of %q, its metadata of namespace %q", parts[2], p.Namespace)
	}
	switch {
	case p.Namespace != c.Namespace:
		return fmt.Errorf("the client's %s is for namespace %q, its node for %q", c.By, c.Namespace, p.Namespace)
	case p.ServiceAccount != "" && p.ServiceAccount != c.ServiceAccount:
		return fmt.Errorf("the client's %s is of service account %q, its node of %q", c.By, c.ServiceAccount, p.ServiceAccount)
	case c.Pod != "" && p.Name != c.Pod:
		return fmt.Errorf("the client's token is of pod %q, its node is %q", c.Pod, p.Name)
	}
	m := a.mesh()
	if m == nil {
		return nil // the proxy waits for the first one, and is told nothing before
	}
	w, known := m.Workloads.Get(p.Namespace, p.Name)
	if !known {
		return nil
	}
	if w.ServiceAccount != "" && w.ServiceAccount != c.ServiceAccount {
		return fmt.Errorf("the client's %s is of service account %q, pod %s has %q", c.By, c.ServiceAccount, p.Name, w.ServiceAccount)
	}
	return elsewhere(m, w, c.Address)
}

// agreesWithTool is agrees for a client that is no proxy: the pod that its node
// names does not exist, and nothing depends on it.
func (a *admission) agreesWithTool(c ca.Caller, p *config.Proxy) error {
	switch {
	case p.Namespace != c.Namespace:
		return fmt.Errorf("the client's %s is for namespace %q, its node for %q", c.By, c.Namespace, p.Namespace)
	case p.ServiceAccount != "" && p.ServiceAccount != c.ServiceAccount:
		return fmt.Errorf("the client's %s is of service account %q, its node of %q", c.By, c.ServiceAccount, p.ServiceAccount)
	}
	return a.check(c)
}

// check implements ca.Service's: a pod's token is worth nothing in another pod.
func (a *admission) check(c ca.Caller) error {
	m := a.mesh()
	if m == nil || c.Pod == "" {
		return nil
	}
	w, known := m.Workloads.Get(c.Namespace, c.Pod)
	if !known {
		return nil
	}
	if err := elsewhere(m, w, c.Address); err != nil {
		a.refused.WithLabelValues("claim").Inc()
		return ca.Refuse(ca.OtherIdentity, err)
	}
	return nil
}

// visitor finds out who asks for a page over HTTP from another machine.
func (a *admission) visitor(r *http.Request) (ca.Caller, error) {
	c, err := a.callers.AuthenticateHTTP(r)
	if err == nil {
		err = a.check(c)
	} else {
		a.refused.WithLabelValues("credential").Inc()
	}
	if err != nil {
		a.log.Warn("refused", zap.String("page", r.URL.Path), zap.String("address", r.RemoteAddr), zap.Error(err))
	}
	return c, err
}

// elsewhere is an error if a call that says to be of pod w comes from another
// pod. Only the address of a known pod speaks against it: others may be those
// of a node or a gateway that the call went through.
func elsewhere(m *config.Mesh, w *config.Workload, from netip.Addr) error {
	if !from.IsValid() || w.HostNetwork || len(w.IPs) == 0 || slices.Contains(w.IPs, from.String()) {
		return nil
	}
	for other := range m.Workloads.All() {
		if !other.HostNetwork && slices.Contains(other.IPs, from.String()) {
			return fmt.Errorf("the call says to be of pod %s.%s (%s), but comes from pod %s.%s (%s)",
				w.Name, w.Namespace, strings.Join(w.IPs, ", "), other.Name, other.Namespace, from)
		}
	}
	return nil
}
