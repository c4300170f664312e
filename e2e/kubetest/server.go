package kubetest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
)

// startTimeout bounds every wait for a process. Starts take seconds; a loaded
// machine may need many times that.
const startTimeout = 2 * time.Minute

// Server is an API server with its etcd.
type Server struct {
	bin  string
	dir  string
	pki  *pki.PKI
	etcd string // its URL
	port int
	args []string // more of the API server's

	mu        sync.Mutex // guards the processes
	processes map[string]*process
	done      bool

	gone chan struct{} // closed by end
}

// Start starts a Server that ends with t. args are given to kube-apiserver.
// Without the binaries (KUBE_BIN_DIR,
// or .cache/bin of this module) the test fails in CI and is skipped elsewhere.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	bin := requireBinaries(t)
	s, err := start(bin, args...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.finish(t) })
	return s
}

func start(bin string, args ...string) (*Server, error) {
	dir, err := os.MkdirTemp("", "pilotfish-kube-")
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, dir: dir, args: args, processes: map[string]*process{}, gone: make(chan struct{})}
	s.stopOnSignal()
	if s.pki, err = pki.Write(filepath.Join(dir, "pki"), []string{"localhost", "kubernetes.default.svc"}, net.IPv4(127, 0, 0, 1)); err != nil {
		s.end()
		return nil, err
	}
	// A free port may be taken by someone else before it is bound: try again.
	for attempt := 0; ; attempt++ {
		if err = s.startBoth(); err == nil || attempt == 2 {
			break
		}
		s.stopAll()
	}
	if err == nil {
		err = clientcmd.WriteToFile(*kubeconfig(s.Config()), s.Kubeconfig())
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, s.logs())
		s.end()
		return nil, err
	}
	return s, nil
}

func (s *Server) startBoth() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	s.etcd = "http://127.0.0.1:" + strconv.Itoa(ports[0])
	peer := "http://127.0.0.1:" + strconv.Itoa(ports[1])
	s.port = ports[2]
	if err := s.startEtcd(peer); err != nil {
		return err
	}
	return s.startAPIServer()
}

func (s *Server) startEtcd(peer string) error {
	p, err := s.launch("etcd",
		"--data-dir", filepath.Join(s.dir, "etcd"),
		"--listen-client-urls", s.etcd, "--advertise-client-urls", s.etcd,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer,
		"--initial-cluster", "default="+peer,
		"--unsafe-no-fsync", "--log-level", "warn")
	if err != nil {
		return err
	}
	return p.waitFor(func(ctx context.Context) error { return get(ctx, http.DefaultClient, s.etcd+"/health") })
}

func (s *Server) startAPIServer() error {
	p, err := s.launch("kube-apiserver", append([]string{
		"--etcd-servers", s.etcd,
		"--bind-address", "127.0.0.1", "--secure-port", strconv.Itoa(s.port),
		"--advertise-address", "127.0.0.1",
		// Its own address is no test's business; it would appear and vanish.
		"--endpoint-reconciler-type", "none",
		"--tls-cert-file", s.pki.Path("server.crt"), "--tls-private-key-file", s.pki.Path("server.key"),
		"--client-ca-file", s.pki.Path("ca.crt"),
		"--service-account-issuer", "https://kubernetes.default.svc",
		"--service-account-key-file", s.pki.Path("sa.pub"),
		"--service-account-signing-key-file", s.pki.Path("sa.key"),
		"--service-cluster-ip-range", "10.96.0.0/16,fd00:10:96::/112",
		"--authorization-mode", "RBAC",
		"--allow-privileged",
		// No controller makes the default accounts that it asks for.
		"--disable-admission-plugins", "ServiceAccount",
	}, s.args...)...)
	if err != nil {
		return err
	}
	client, err := s.httpClient()
	if err != nil {
		return err
	}
	defer client.CloseIdleConnections()
	return p.waitFor(func(ctx context.Context) error { return get(ctx, client, s.url()+"/readyz") })
}

// Config returns a new client configuration with every right.
func (s *Server) Config() *rest.Config {
	return &rest.Config{
		Host: s.url(),
		TLSClientConfig: rest.TLSClientConfig{
			CAData: s.pki.CA.Cert, CertData: s.pki.Admin.Cert, KeyData: s.pki.Admin.KeyPEM,
		},
		QPS:                       -1, // tests need no protection of the server
		WarningHandlerWithContext: rest.NoWarnings{},
	}
}

// Kubeconfig is the path of a file that says the same as Config.
func (s *Server) Kubeconfig() string { return filepath.Join(s.dir, "kubeconfig") }

// Stop ends the API server, which then refuses connections. etcd stays.
func (s *Server) Stop(t testing.TB) {
	t.Helper()
	s.mu.Lock()
	p := s.processes["kube-apiserver"]
	s.mu.Unlock()
	p.stop()
}

// Restart starts the stopped API server again, at its port and with its data.
func (s *Server) Restart(t testing.TB) {
	t.Helper()
	s.Stop(t)
	if err := s.startAPIServer(); err != nil {
		t.Fatalf("%v\n%s", err, s.logs())
	}
}

func (s *Server) url() string { return "https://127.0.0.1:" + strconv.Itoa(s.port) }

func (s *Server) httpClient() (*http.Client, error) { return rest.HTTPClientFor(s.Config()) }

// finish ends everything and shows the logs of a failed test.
func (s *Server) finish(t testing.TB) {
	if t.Failed() {
		t.Log(s.logs())
	}
	s.end()
}

// end stops both processes and removes the folder. It may be called twice.
func (s *Server) end() {
	s.mu.Lock()
	if !s.done {
		s.done = true
		close(s.gone)
	}
	s.mu.Unlock()
	s.stopAll()
	_ = os.RemoveAll(s.dir)
}

func (s *Server) stopAll() {
	s.mu.Lock()
	api, etcd := s.processes["kube-apiserver"], s.processes["etcd"]
	s.mu.Unlock()
	api.stop()
	etcd.stop()
}

func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(url + ": " + resp.Status)
	}
	return nil
}

// freePorts returns different ports that nobody listened on a moment ago.
func freePorts(n int) ([]int, error) {
	var ports []int
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		defer func() { _ = l.Close() }() // held until all are found
		ports = append(ports, l.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}

func kubeconfig(c *rest.Config) *clientcmdapi.Config {
	k := clientcmdapi.NewConfig()
	k.Clusters["test"] = &clientcmdapi.Cluster{Server: c.Host, CertificateAuthorityData: c.CAData}
	k.AuthInfos["test"] = &clientcmdapi.AuthInfo{ClientCertificateData: c.CertData, ClientKeyData: c.KeyData}
	k.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "test"}
	k.CurrentContext = "test"
	return k
}
