package up

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/discovery/jwks"
	"github.com/pilotfish-mesh/pilotfish/serve"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// Mesh is a running mesh. Its methods may be called from any goroutine.
type Mesh struct {
	options Options
	plane   *serve.Plane
	source  *file.Source
	ground  ground
	around  surroundings
	reaper  *reaper
	ads     *grpc.Server
	load    *Load

	resolver     *resolver
	outside      netip.Addr   // reserved for the world outside
	pageListener net.Listener // nil without a page

	cancel  context.CancelFunc // ends the control plane and the loops
	running sync.WaitGroup
	ended   chan struct{} // closed when the control plane has ended
	err     error         // why; valid after ended

	// Of Start, then of follow: what was noted already.
	told     map[config.Problem]bool
	toldOnce map[string]bool

	mu        sync.Mutex // guards what follows
	pods      map[string]*pod
	stopping  map[*pod]bool
	addresses map[config.Key][]string // of pods that are ready
	coming    []coming
	gateways  []*gatewayPort
}

// startTimeout is how long everything may take to become ready.
const startTimeout = 2 * time.Minute

// Start brings a mesh up and returns when every proxy is ready and has the
// present configuration. ctx limits the start only; Close ends the mesh. On
// error nothing is left running.
func Start(ctx context.Context, o Options) (_ *Mesh, err error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	m := &Mesh{
		options: o, ended: make(chan struct{}), pods: map[string]*pod{}, stopping: map[*pod]bool{},
		addresses: map[config.Key][]string{}, cancel: func() {}, toldOnce: map[string]bool{},
	}
	defer func() {
		if err != nil {
			m.Close()
		}
	}()
	if err := m.openPage(); err != nil {
		return nil, err
	}
	if m.around.envoy, err = openEnvoy(o.Envoy); err != nil {
		return nil, err
	}
	if m.ground, err = newGround(o.Mode, o.Note); err != nil {
		return nil, err
	}
	if err := m.makeDir(); err != nil {
		return nil, err
	}
	if err := m.listenResolver(); err != nil {
		return nil, err
	}
	changed, err := m.startPlane()
	if err != nil {
		return nil, err
	}
	if err := m.firstMesh(ctx, changed); err != nil {
		return nil, err
	}
	return m, m.finishStart(ctx, changed)
}

func (m *Mesh) makeDir() error {
	dir, err := os.MkdirTemp("", "pilotfish-")
	if err == nil && len(dir) > 60 { // sockets in it have short paths only
		_ = os.Remove(dir)
		dir, err = os.MkdirTemp("/tmp", "pilotfish-")
	}
	if err != nil {
		return err
	}
	m.around.dir = dir
	if m.reaper, err = startReaper(dir); err != nil {
		return err
	}
	return os.Chmod(dir, 0o711) //nolint:gosec // proxies of another user pass through it to their own directories
}

// listenResolver opens the sockets of the mesh's DNS server, which runs from
// startPlane on.
func (m *Mesh) listenResolver() error {
	udp, tcp, at, err := m.ground.resolver()
	if err != nil {
		return fmt.Errorf("DNS for the proxies: %w", err)
	}
	if m.outside, err = m.ground.outside(); err != nil {
		return err
	}
	m.resolver = &resolver{udp: udp, tcp: tcp, lookup: m.lookup}
	m.around.dns = at
	return nil
}

// startPlane runs the control plane, reachable on a Unix socket.
func (m *Mesh) startPlane() (changed <-chan struct{}, err error) {
	m.source = file.New(m.options.Paths, file.WithAddresses(m.addressOf), file.WithSidecars(m.hasSidecar))
	o := snapshot.Options{Authorize: serve.Authorize}
	m.plane = serve.NewPlane([]serve.NamedSource{{Name: file.Name, Source: m.source}}, o)
	m.plane.TellBuild(m.options.Build)
	m.plane.Store.ReadEnvironment(m.options.variable)
	m.plane.FetchKeys(jwks.Options{Internal: m.options.InternalKeys})
	changed = m.plane.Watch()

	socket := filepath.Join(m.around.dir, "xds.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		return nil, err
	}
	// Who can open the socket may be sent secrets.
	if m.ground.interception() == config.Redirect {
		err = os.Chown(socket, agent.ProxyUID, agent.ProxyUID)
	}
	if err == nil {
		err = os.Chmod(socket, 0o600)
	}
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	m.resolver.run()
	m.ads = grpc.NewServer(o.GRPC()...)
	m.plane.Server.Register(m.ads)
	m.around.discovery = agent.Address{Path: socket}
	m.around.interception = m.ground.interception()
	m.around.sotw = m.options.StateOfTheWorld
	m.around.note = m.options.Note

	ctx, cancel := context.WithCancel(context.Background())
	m.cancel = cancel
	m.running.Go(func() { _ = m.ads.Serve(l) })
	m.running.Go(func() {
		defer close(m.ended)
		m.err = m.plane.Run(ctx)
	})
	return changed, nil
}

// addressOf is asked by the source: a pod has an address when it is ready.
func (m *Mesh) addressOf(pod config.Key, _ map[string]string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.addresses[pod]
}

func (m *Mesh) firstMesh(ctx context.Context, changed <-chan struct{}) error {
	select {
	case <-m.plane.Cache.Ready():
	case <-m.ended:
		return m.err
	case <-ctx.Done():
		return errors.New("the configuration was not read in time")
	}
	select {
	case <-changed:
	default:
	}
	mesh := m.plane.Store.Mesh()
	m.around.domain = mesh.Settings.DomainSuffix
	var err error
	if m.around.authority, err = newAuthority(mesh); err != nil {
		return err
	}
	ca.NewMetrics(m.around.authority, m.plane.Registry)
	if len(plan(mesh, nil)) == 0 {
		return fmt.Errorf("%v: no workload in it: want a Deployment, a Pod, a WorkloadEntry or a Gateway", m.options.Paths)
	}
	return nil
}

// finishStart starts the pods, waits for all to be in order, and starts what
// follows changes from then on.
func (m *Mesh) finishStart(ctx context.Context, changed <-chan struct{}) error {
	mesh := m.plane.Store.Mesh()
	began := time.Now()
	if err := m.reconcile(ctx, mesh); err != nil {
		return err
	}
	if err := m.waitSynced(ctx); err != nil {
		if ctx.Err() != nil {
			return err
		}
		m.options.Note(err.Error())
	}
	m.tellProblems()
	m.options.Note(fmt.Sprintf("%d pods are ready and have their configuration after %.1f s", len(m.podList()), time.Since(began).Seconds()))
	loop, cancel := context.WithCancel(context.Background())
	planeCancel := m.cancel
	m.cancel = func() { cancel(); planeCancel() }
	m.running.Go(func() { m.follow(loop, changed) })
	if m.options.LoadRate > 0 {
		m.load = newLoad(m.options.LoadRate, m.loadTarget)
		m.running.Go(func() { m.load.run(loop) })
	}
	m.servePage(loop)
	return nil
}

// follow brings the pods to what the folder asks for after each change, and
// tells problems as they come up.
func (m *Mesh) follow(ctx context.Context, changed <-chan struct{}) {
	look := time.NewTicker(time.Second) // proxies reject without a change of the mesh
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		case <-changed:
			if err := m.reconcile(ctx, m.plane.Store.Mesh()); err != nil && ctx.Err() == nil {
				m.options.Note(err.Error())
			}
		}
		m.tellProblems()
	}
}

// tellProblems notes those that it did not note before.
func (m *Mesh) tellProblems() {
	now := map[config.Problem]bool{}
	for _, p := range m.plane.Problems() {
		now[p] = true
		if !m.told[p] {
			m.options.Note(p.String())
		}
	}
	m.told = now
}

// tellOnce notes a line unless it was noted before.
func (m *Mesh) tellOnce(line string) {
	if !m.toldOnce[line] {
		m.toldOnce[line] = true
		m.options.Note(line)
	}
}

// Close ends everything that the mesh started and removes its files. It may
// be called again.
func (m *Mesh) Close() {
	m.cancel()
	if m.ads != nil {
		m.ads.Stop()
	}
	m.running.Wait()
	if m.plane != nil {
		m.plane.Server.Close()
	}
	m.mu.Lock()
	all := m.stopping
	for _, p := range m.pods {
		all[p] = true
	}
	gates := m.gateways
	m.pods, m.stopping, m.gateways = map[string]*pod{}, map[*pod]bool{}, nil
	m.mu.Unlock()
	for _, g := range gates {
		g.forward.close()
	}
	var stopping sync.WaitGroup
	for p := range all {
		stopping.Go(p.stop)
	}
	stopping.Wait()
	if m.ground != nil {
		m.ground.close()
	}
	if m.resolver != nil {
		m.resolver.close()
	}
	if m.pageListener != nil {
		_ = m.pageListener.Close()
	}
	if m.around.envoy != nil {
		_ = m.around.envoy.Close()
	}
	if m.reaper != nil {
		_ = os.RemoveAll(m.around.dir)
		m.reaper.release()
		m.reaper = nil
	}
}

// Plane is the control plane of the mesh.
func (m *Mesh) Plane() *serve.Plane { return m.plane }

// Load is the steady load, or nil without one.
func (m *Mesh) Load() *Load { return m.load }

// Failed is closed when the control plane has ended by itself, before Close;
// Err then says why.
func (m *Mesh) Failed() <-chan struct{} { return m.ended }

// Err is why the control plane ended; valid after Failed is closed.
func (m *Mesh) Err() error { return m.err }
