package ca

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"strings"
)

// Identity is who a workload is: spiffe://<trust domain>/ns/<namespace>/sa/<service account>.
type Identity struct {
	TrustDomain, Namespace, ServiceAccount string
}

// String is the identity's URI.
func (i Identity) String() string { return i.URI().String() }

// URI is the identity as a certificate carries it.
func (i Identity) URI() *url.URL {
	return &url.URL{Scheme: "spiffe", Host: i.TrustDomain, Path: "/ns/" + i.Namespace + "/sa/" + i.ServiceAccount}
}

// ParseIdentity reads a URI of the form that String gives, and nothing else.
func ParseIdentity(uri string) (Identity, error) {
	const form = "want spiffe://<trust domain>/ns/<namespace>/sa/<service account>"
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	parts := strings.Split(rest, "/")
	if !ok || len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" {
		return Identity{}, fmt.Errorf("%q is no workload identity: %s", uri, form)
	}
	for _, p := range []string{parts[0], parts[2], parts[4]} {
		if p == "" || strings.ContainsAny(p, "?#%@:") {
			return Identity{}, fmt.Errorf("%q is no workload identity: %s", uri, form)
		}
	}
	return Identity{TrustDomain: parts[0], Namespace: parts[2], ServiceAccount: parts[4]}, nil
}

// IdentityOf is the one identity that a certificate carries. A certificate
// with several URIs proves none of them (SPIFFE X509-SVID, section 2).
func IdentityOf(c *x509.Certificate) (Identity, error) {
	if len(c.URIs) != 1 {
		return Identity{}, fmt.Errorf("the certificate has %d URIs, want one: a workload identity", len(c.URIs))
	}
	return ParseIdentity(c.URIs[0].String())
}
