package simulate

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"

	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

const clientCertHeader = "x-forwarded-client-cert"

// clientCert does to the header about the client's certificate what the
// connection manager is told (envoy HttpConnectionManager.forward_client_cert_details).
func (r *request) clientCert() {
	how := r.manager.GetForwardClientCertDetails()
	if how == hcm.HttpConnectionManager_ALWAYS_FORWARD_ONLY {
		return
	}
	if how == hcm.HttpConnectionManager_SANITIZE || r.hop.Downstream.Mode != MTLS {
		r.http.Header = r.http.Header.without(clientCertHeader)
		return
	}
	if how == hcm.HttpConnectionManager_FORWARD_ONLY {
		return
	}
	own := r.hop.Downstream.forwarded(r.manager.GetSetCurrentClientCertDetails())
	if had, there := r.http.get(clientCertHeader); there && how == hcm.HttpConnectionManager_APPEND_FORWARD {
		own = had + "," + own
	}
	r.http.Header = append(r.http.Header.without(clientCertHeader), Field{clientCertHeader, own})
}

// notKnown stands for a part of the header that only a real certificate has.
const notKnown = "(not known)"

// forwarded is the header's element about this connection.
func (s *Security) forwarded(set *hcm.HttpConnectionManager_SetCurrentClientCertDetails) string {
	c := s.certificate
	if c == nil {
		c = &Certificate{SubjectAltNames: []string{s.Identity}}
	}
	hash := notKnown
	if c.chain != nil {
		sum := sha256.Sum256(c.chain[0].Raw)
		hash = hex.EncodeToString(sum[:])
	}
	parts := []string{"Hash=" + hash}
	if set.GetCert() {
		parts = append(parts, `Cert="`+notKnown+`"`)
	}
	if set.GetChain() {
		parts = append(parts, `Chain="`+notKnown+`"`)
	}
	if set.GetSubject().GetValue() {
		parts = append(parts, `Subject="`+c.Subject+`"`)
	}
	if set.GetUri() {
		uris := c.named(NameURI)
		if len(uris) == 0 {
			uris = []string{""}
		}
		for _, u := range uris {
			parts = append(parts, "URI="+u)
		}
	}
	if set.GetDns() {
		for _, n := range c.named(NameDNS) {
			parts = append(parts, "DNS="+n)
		}
	}
	return strings.Join(parts, ";")
}
