package serve

import (
	"context"
	"fmt"
	"strings"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// Authorize decides what a stream may be sent by where it came in: over a
// Unix socket, which only this machine's chosen users can open, and over TLS
// for the namespace that the client's certificate names, with secrets; in
// plaintext without.
func Authorize(ctx context.Context, p *config.Proxy) (snapshot.Grant, error) {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return snapshot.Grant{}, fmt.Errorf("a stream without a peer")
	}
	if from.Addr.Network() == "unix" {
		return snapshot.Grant{Secrets: true}, nil
	}
	tls, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return snapshot.Grant{}, nil
	}
	if len(tls.State.VerifiedChains) == 0 {
		return snapshot.Grant{}, fmt.Errorf("the client has shown no certificate")
	}
	leaf := tls.State.VerifiedChains[0][0]
	for _, u := range leaf.URIs {
		if ns, ok := identityNamespace(u.String()); ok {
			if ns != p.Namespace {
				return snapshot.Grant{}, fmt.Errorf("the client's certificate is for namespace %q, its node for %q", ns, p.Namespace)
			}
			return snapshot.Grant{Secrets: true}, nil
		}
	}
	return snapshot.Grant{}, fmt.Errorf("the client's certificate names no workload: want a URI spiffe://<trust domain>/ns/<namespace>/sa/<service account>")
}

// identityNamespace is that of spiffe://<trust domain>/ns/<ns>/sa/<sa>.
func identityNamespace(uri string) (string, bool) {
	rest, ok := strings.CutPrefix(uri, "spiffe://")
	if !ok {
		return "", false
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 5 || parts[1] != "ns" || parts[3] != "sa" || parts[2] == "" {
		return "", false
	}
	return parts[2], true
}
