package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
)

// Where things are inside the node. They cannot clash with the machine's own:
// the node has a network and a /run of its own.
const (
	nodeName     = "pilotfish"
	podRange     = "10.244.0.0/24"
	podGateway   = "10.244.0.1"
	serviceRange = "10.96.0.0/16"
	apiService   = "10.96.0.1"
	dnsService   = "10.96.0.10"
	apiPort      = "6443"
	runtimeSock  = "/run/containerd/containerd.sock"
	deviceInNode = "uplink"
	// PauseImage is what the sandbox of each pod runs. Up needs its archive.
	PauseImage = "docker.io/pilotfish/pause:1"
)

// Node is a cluster of one node with its state in a folder. It may run or not.
type Node struct {
	dir string // absolute
	bin string // the binaries of tools/build.sh
	id  string // of the folder; names what lies outside of it
}

// New is the node with its state in dir and its binaries in bin. Nothing runs
// yet.
func New(dir, bin string) (*Node, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	bin, err = filepath.Abs(bin)
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256([]byte(dir))
	n := &Node{dir: dir, bin: bin, id: hex.EncodeToString(sum[:4])}
	// sockaddr_un has 108 bytes (unix(7)).
	if p := n.path("control.sock"); len(p) > 107 {
		return nil, fmt.Errorf("%s is too long a path for a Unix socket: choose a shorter folder", p)
	}
	return n, nil
}

func (n *Node) path(parts ...string) string {
	return filepath.Join(append([]string{n.dir}, parts...)...)
}

// Kubeconfig is the path of the administrator's kubeconfig, for this machine.
func (n *Node) Kubeconfig() string { return n.path("kubeconfig") }

// device is the machine's end of the way in.
func (n *Node) device() string { return "pf-" + n.id }

func (n *Node) cgroup() string { return "pilotfish-" + n.id }

// link is the pair of addresses of the way in: the machine's and the node's.
type link struct{ host, node netip.Prefix }

// linkRange is for tests of networks (RFC 2544): no one routes it.
var linkRange = netip.MustParsePrefix("198.18.0.0/15")

// freeLink finds four addresses that no interface of this machine is in.
func freeLink() (link, error) {
	taken, err := net.InterfaceAddrs()
	if err != nil {
		return link{}, err
	}
	for i := range 64 {
		b := linkRange.Addr().As4()
		b[2] = byte(77 + i)
		p := netip.PrefixFrom(netip.AddrFrom4(b), 30)
		if !overlaps(p, taken) {
			host := p.Addr().Next()
			return link{netip.PrefixFrom(host, 30), netip.PrefixFrom(host.Next(), 30)}, nil
		}
	}
	return link{}, fmt.Errorf("this machine uses all of %s", linkRange)
}

func overlaps(p netip.Prefix, taken []net.Addr) bool {
	for _, a := range taken {
		if q, err := netip.ParsePrefix(a.String()); err == nil && p.Overlaps(q) {
			return true
		}
	}
	return false
}
