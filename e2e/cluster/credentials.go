package cluster

import (
	"net"
	"net/netip"
	"path/filepath"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/pilotfish-mesh/pilotfish/e2e/pki"
)

// writeCredentials makes the cluster's certificates and keys, and the
// administrator's kubeconfigs: one for this machine and one for the node's own
// processes.
func (n *Node) writeCredentials(node netip.Addr) error {
	p, err := pki.Write(n.path("pki"),
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		net.IPv4(127, 0, 0, 1), net.ParseIP(apiService), node.AsSlice())
	if err != nil {
		return err
	}
	for file, host := range map[string]string{"kubeconfig": node.String(), filepath.Join("etc", "kubeconfig"): "127.0.0.1"} {
		k := clientcmdapi.NewConfig()
		k.Clusters[nodeName] = &clientcmdapi.Cluster{Server: "https://" + net.JoinHostPort(host, apiPort), CertificateAuthorityData: p.CA.Cert}
		k.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: p.Admin.Cert, ClientKeyData: p.Admin.KeyPEM}
		k.Contexts[nodeName] = &clientcmdapi.Context{Cluster: nodeName, AuthInfo: "admin"}
		k.CurrentContext = nodeName
		if err := clientcmd.WriteToFile(*k, n.path(file)); err != nil {
			return err
		}
	}
	return nil
}
