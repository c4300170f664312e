package up

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/agent"
	"github.com/pilotfish-mesh/pilotfish/ca"
	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// pod is one running pod: the application, the proxy, or both.
type pod struct {
	plan   *podPlan
	place  *place
	note   func(string)
	proxy  *keeper // nil for plain pods
	admin  *http.Client
	node   *agent.Node // nil for plain pods
	certs  *certified  // nil for plain pods
	meter  *metered    // nil for plain pods
	wasm   *extended   // nil for plain pods
	forget func()      // takes the pod out of the directory

	mu        sync.Mutex // guards what follows
	app       *keeper
	listeners map[uint32]*os.File
	refused   map[uint32]bool // ports that this process may not bind
}

// ports are those that the application listens on, sorted.
func (p *pod) ports() []uint32 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Sorted(maps.Keys(p.listeners))
}

// surroundings are what pods of one mesh have in common.
type surroundings struct {
	envoy        *os.File // the binary
	dir          string   // where each proxy gets a directory
	discovery    agent.Address
	dns          agent.Address
	interception config.Interception
	sotw         bool
	domain       string
	note         func(string)
	authority    *ca.Authority
	directory    directory
}

func (s *surroundings) startPod(p *podPlan, at *place) (*pod, error) {
	out := &pod{plan: p, place: at, note: s.note, forget: s.directory.add(at.addr.String(), workloadOf(p)), listeners: map[uint32]*os.File{}, refused: map[uint32]bool{}}
	if p.role != gateway {
		if err := out.serve(p.ports); err != nil {
			out.stop()
			return nil, err
		}
	}
	if p.role != plain {
		if err := out.startProxy(s); err != nil {
			out.stop()
			return nil, err
		}
	}
	return out, nil
}

// serve makes the application listen on exactly these ports. One that this
// process may not bind is noted and left out.
func (p *pod) serve(ports []uint32) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	ports = slices.DeleteFunc(slices.Clone(ports), func(n uint32) bool { return p.refused[n] })
	if len(ports) == len(p.listeners) && !slices.ContainsFunc(ports, func(n uint32) bool { return p.listeners[n] == nil }) {
		return nil
	}
	for n, l := range p.listeners {
		if !slices.Contains(ports, n) {
			_ = l.Close()
			delete(p.listeners, n)
		}
	}
	for _, n := range ports {
		if p.listeners[n] != nil {
			continue
		}
		l, err := p.place.listen(n)
		if errors.Is(err, syscall.EACCES) {
			p.refused[n] = true
			p.note(fmt.Sprintf("%s does not listen on port %d: ports below 1024 need root", p.plan.key(), n))
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: port %d: %w", p.plan.key(), n, err)
		}
		p.listeners[n] = l
	}
	// The old process keeps answering what it accepted while the new one
	// takes over the sockets.
	old := p.app
	p.app = nil
	if len(p.listeners) > 0 {
		p.app = p.echoKeeper()
		if err := p.app.run(); err != nil {
			return err
		}
	}
	old.stop()
	return nil
}

func (p *pod) echoKeeper() *keeper {
	w := p.plan.workload
	files := make([]*os.File, 0, len(p.listeners))
	for _, n := range slices.Sorted(maps.Keys(p.listeners)) {
		files = append(files, p.listeners[n])
	}
	return &keeper{
		what: "application of " + p.plan.key(), place: p.place, as: p.place.app, note: p.note,
		command: func() (*exec.Cmd, error) {
			arg, err := json.Marshal(echoArgs{Listeners: len(files), Identity: echo.Identity{
				Workload: workloadName(w), Pod: p.plan.name, Namespace: w.Namespace,
				Version: w.Labels["version"], Labels: w.Labels,
			}})
			if err != nil {
				return nil, err
			}
			cmd := exec.Command(self, echoRole, string(arg))
			cmd.Args[0] = "pilotfish"
			cmd.Dir = "/"
			cmd.ExtraFiles = files
			return cmd, nil
		},
	}
}

func (s *surroundings) nodeOf(p *podPlan, at *place) agent.Node {
	w := p.workload
	n := agent.Node{
		Type: string(config.Sidecar), IPs: []string{at.addr.String()}, Name: p.name, Namespace: w.Namespace,
		DomainSuffix: s.domain, Labels: w.Labels, Annotations: w.Annotations, ServiceAccount: w.ServiceAccount,
		ClusterID: clusterID, NodeName: w.Node, Network: w.Network, Workload: workloadName(w),
		Owner:        agent.Owner{Group: w.Owner.Group, Kind: w.Owner.Kind, Namespace: w.Owner.Namespace, Name: w.Owner.Name},
		Locality:     agent.Locality{Region: w.Locality.Region, Zone: w.Locality.Zone, Subzone: w.Locality.Subzone},
		Interception: string(s.interception), Ports: w.Ports,
		Local: &agent.LocalAddresses{OwnResolver: true}, Certificates: true,
	}
	if p.role == gateway {
		n.Type = string(config.Router)
	}
	if l := at.local; l != nil {
		n.Local.Outbound, n.Local.App, n.Local.PortBase = l.Outbound, l.App, l.PortBase
		if p.role == gateway {
			// A gateway has nothing but its own address to listen on.
			n.Local.Outbound, n.Local.App = at.addr.String(), ""
		}
	}
	return n
}

// clusterID is the cluster that all pods are in.
const clusterID = "Kubernetes"

func (p *pod) startProxy(s *surroundings) error {
	// By address, since a pod and the one that replaces it have one name.
	dir := filepath.Join(s.dir, fmt.Sprintf("%s.%s-%s", p.plan.name, p.plan.workload.Namespace, p.place.addr))
	if len(dir) > 80 { // a socket's path has at most 107 bytes
		dir = filepath.Join(s.dir, p.place.addr.String())
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	as := p.place.proxy
	if as.id != 0 {
		if err := os.Chown(dir, int(as.id), int(as.id)); err != nil {
			return err
		}
	}
	socket := filepath.Join(dir, "admin.sock")
	set := &p.plan.proxy
	node := s.nodeOf(p.plan, p.place)
	js, err := set.json()
	if err != nil {
		return err
	}
	node.ProxyConfig, node.Metadata = js, set.metadata()
	p.node = &node
	certs, secrets, err := s.certify(p.plan, dir, as)
	if err != nil {
		return err
	}
	p.certs = certs
	meter, logs, err := s.meter(p.plan, dir, as)
	if err != nil {
		return err
	}
	p.meter = meter
	wasm, extensions, err := s.extend(p.plan, dir, as)
	if err != nil {
		return err
	}
	p.wasm = wasm
	b := agent.Bootstrap{
		Node: node, Discovery: s.discovery, DNS: s.dns, Admin: agent.Address{Path: socket}, StateOfTheWorld: s.sotw, Secrets: secrets,
		Telemetry: logs, Modules: extensions, Runtime: set.runtime(),
	}
	if p.place.local != nil {
		b.StaticHost = p.place.addr.String()
	}
	boot, err := b.JSON()
	if err != nil {
		return err
	}
	file := filepath.Join(dir, "bootstrap.json")
	patched, err := s.patched(p.plan, &node, boot)
	if err != nil {
		return err
	}
	if patched != nil {
		boot, file = patched, filepath.Join(dir, "bootstrap.pb")
	}
	if err := os.WriteFile(file, boot, 0o644); err != nil { //nolint:gosec // Envoy's user reads it; it holds no secret
		return err
	}
	p.admin = &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
	}}
	p.proxy = &keeper{
		what: "Envoy of " + p.plan.key(), place: p.place, as: as, note: p.note,
		command: func() (*exec.Cmd, error) { return envoyCommand(s.envoy, dir, file, set), nil },
	}
	return p.proxy.run()
}

// envoyCommand runs the binary by descriptor: Envoy's user need not be able
// to reach its path.
func envoyCommand(binary *os.File, dir, bootstrap string, set *proxySettings) *exec.Cmd {
	cmd := exec.Command("/proc/self/fd/3",
		"-c", bootstrap, "--disable-hot-restart", "--concurrency", set.concurrency(),
		"--log-level", "warning", "--log-format", "%L%m%d %T.%e %n] %v",
		"--drain-time-s", set.drain(), "--drain-strategy", "immediate")
	cmd.Args[0] = "envoy"
	cmd.Env = append(os.Environ(), set.environment()...)
	cmd.Dir = dir
	cmd.ExtraFiles = []*os.File{binary}
	return cmd
}

// ready asks the proxy. An error is why it never will be.
func (p *pod) ready(ctx context.Context) (bool, error) {
	if p.proxy == nil {
		return true, nil
	}
	select {
	case err := <-p.proxy.first:
		return false, err
	default:
	}
	body, err := p.adminGet(ctx, "/ready")
	return err == nil && strings.TrimSpace(string(body)) == "LIVE", nil
}

func (p *pod) adminGet(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://admin"+path, nil)
	if err != nil {
		return nil, err
	}
	resp, err := p.admin.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	var b bytes.Buffer
	if _, err := io.Copy(&b, resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", path, resp.Status)
	}
	return b.Bytes(), nil
}

// stop ends the pod's processes: the proxy first, so that it does not see the
// application go.
func (p *pod) stop() {
	p.proxy.stop()
	p.certs.close()
	p.meter.close()
	p.wasm.close()
	p.forget()
	if p.admin != nil {
		p.admin.CloseIdleConnections()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.app.stop()
	for _, l := range p.listeners {
		_ = l.Close()
	}
	p.listeners = map[uint32]*os.File{}
	p.place.close()
}
