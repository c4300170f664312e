package cluster

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// lifetime is that of the cluster's certificates; nothing renews them.
const lifetime = 365 * 24 * time.Hour

// identity is a certificate and its key.
type identity struct {
	cert            *x509.Certificate
	key             crypto.Signer
	certPEM, keyPEM []byte
}

// writePKI makes the authority, the API server's certificate, the keys of
// service account tokens, and the administrator's kubeconfigs: one for this
// machine and one for the node's own processes.
func (n *Node) writePKI(node netip.Addr) error {
	ca, err := issue(nil, pkix.Name{CommonName: "cluster-ca"}, nil)
	if err != nil {
		return err
	}
	server, err := issue(ca, pkix.Name{CommonName: "kube-apiserver"},
		[]string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
		net.IPv4(127, 0, 0, 1), net.ParseIP(apiService), node.AsSlice())
	if err != nil {
		return err
	}
	admin, err := issue(ca, pkix.Name{CommonName: "admin", Organization: []string{"system:masters"}}, nil)
	if err != nil {
		return err
	}
	accounts, err := issue(nil, pkix.Name{CommonName: "service-accounts"}, nil)
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(accounts.key.Public())
	if err != nil {
		return err
	}
	for name, content := range map[string][]byte{
		"ca.crt": ca.certPEM, "ca.key": ca.keyPEM,
		"apiserver.crt": server.certPEM, "apiserver.key": server.keyPEM,
		"admin.crt": admin.certPEM, "admin.key": admin.keyPEM,
		"sa.key": accounts.keyPEM,
		"sa.pub": pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}),
	} {
		if err := os.WriteFile(n.path("pki", name), content, 0o600); err != nil {
			return err
		}
	}
	for file, host := range map[string]string{"kubeconfig": node.String(), filepath.Join("etc", "kubeconfig"): "127.0.0.1"} {
		k := clientcmdapi.NewConfig()
		k.Clusters[nodeName] = &clientcmdapi.Cluster{Server: "https://" + net.JoinHostPort(host, apiPort), CertificateAuthorityData: ca.certPEM}
		k.AuthInfos["admin"] = &clientcmdapi.AuthInfo{ClientCertificateData: admin.certPEM, ClientKeyData: admin.keyPEM}
		k.Contexts[nodeName] = &clientcmdapi.Context{Cluster: nodeName, AuthInfo: "admin"}
		k.CurrentContext = nodeName
		if err := clientcmd.WriteToFile(*k, n.path(file)); err != nil {
			return err
		}
	}
	return nil
}

// issue makes an identity signed by ca, or by itself if ca is nil.
func issue(ca *identity, subject pkix.Name, names []string, ips ...net.IP) (*identity, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	id := &identity{key: key, cert: &x509.Certificate{
		SerialNumber: serial, Subject: subject, DNSNames: names, IPAddresses: ips,
		NotBefore: time.Now().Add(-time.Minute), NotAfter: time.Now().Add(lifetime),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}}
	if ca == nil {
		ca = id
		id.cert.IsCA, id.cert.BasicConstraintsValid = true, true
		id.cert.KeyUsage |= x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, id.cert, ca.cert, key.Public(), ca.key)
	if err != nil {
		return nil, err
	}
	keyDER, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return nil, err
	}
	id.certPEM = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	id.keyPEM = pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
	return id, nil
}
