//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	security "istio.io/api/security/v1alpha1"
)

// Fetch is one request; Fetched is what came of it.
type Fetch struct {
	URL     string            `json:"url"`
	Host    string            `json:"host,omitempty"`
	Method  string            `json:"method,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
}

// Fetched has either an Error or a Status.
type Fetched struct {
	Error   string      `json:"error,omitempty"`
	Status  int         `json:"status,omitempty"`
	Headers http.Header `json:"headers,omitempty"`
	Body    string      `json:"body,omitempty"`
}

func (d *driver) fetch(w http.ResponseWriter, r *http.Request) {
	var f Fetch
	if err := json.NewDecoder(r.Body).Decode(&f); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.NewEncoder(w).Encode(fetchOnce(r.Context(), f))
}

func fetchOnce(ctx context.Context, f Fetch) Fetched {
	if f.Method == "" {
		f.Method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, f.Method, f.URL, nil)
	if err != nil {
		return Fetched{Error: err.Error()}
	}
	req.Host = f.Host
	for k, v := range f.Headers {
		req.Header.Set(k, v)
	}
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableKeepAlives = true
	resp, err := (&http.Client{Transport: t, Timeout: requestTimeout}).Do(req)
	if err != nil {
		return Fetched{Error: err.Error()}
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return Fetched{Error: err.Error()}
	}
	return Fetched{Status: resp.StatusCode, Headers: resp.Header, Body: string(body)}
}

// peer opens TLS to an address and tells the certificates that were shown, in
// PEM, leaf first.
func peer(w http.ResponseWriter, r *http.Request) {
	address := r.URL.Query().Get("address")
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	// the question is who answers, not whether to trust it
	c, err := (&tls.Dialer{Config: &tls.Config{
		InsecureSkipVerify: true, NextProtos: strings.Fields(r.URL.Query().Get("alpn")), ServerName: r.URL.Query().Get("name"),
	}}).DialContext(ctx, "tcp", address)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = c.Close() }()
	for _, cert := range c.(*tls.Conn).ConnectionState().PeerCertificates {
		_ = pem.Encode(w, &pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	}
}

// Signing is a request to the certificate authority as an agent sends it;
// the answer is the chain, or a status that says why not.
type Signing struct {
	Address string `json:"address"` // of the authority
	Name    string `json:"name"`    // that its certificate must have
	Root    string `json:"root"`    // PEM
	Token   string `json:"token"`
	CSR     string `json:"csr"` // PEM
	// LifetimeSeconds is asked for.
	LifetimeSeconds int64 `json:"lifetimeSeconds"`
}

func sign(w http.ResponseWriter, r *http.Request) {
	var s Signing
	if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	roots, err := pool(s.Root)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	c, err := grpc.NewClient(s.Address, grpc.WithTransportCredentials(credentials.NewTLS(&tls.Config{RootCAs: roots, ServerName: s.Name})))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(r.Context(), requestTimeout)
	defer cancel()
	ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+s.Token)
	answer, err := security.NewIstioCertificateServiceClient(c).CreateCertificate(ctx,
		&security.IstioCertificateRequest{Csr: s.CSR, ValidityDuration: s.LifetimeSeconds})
	if err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	_, _ = io.WriteString(w, strings.Join(answer.GetCertChain(), ""))
}

// token is the pod's own, for tests of what a thief could do with it.
func token(w http.ResponseWriter, _ *http.Request) {
	b, err := os.ReadFile("/var/run/secrets/tokens/istio-token")
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	_, _ = w.Write(b)
}

// capture records the bytes that TCP carries to and from a port of this pod's
// network for a while (query port and for), as a hex dump of each payload.
func capture(w http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.URL.Query().Get("for"))
	if err != nil || d > time.Minute {
		http.Error(w, "want for=DURATION", http.StatusBadRequest)
		return
	}
	var port uint16
	if _, err := fmt.Sscan(r.URL.Query().Get("port"), &port); err != nil {
		http.Error(w, "want port=NUMBER", http.StatusBadRequest)
		return
	}
	payloads, err := sniff(r.Context(), port, d)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	for _, p := range payloads {
		_, _ = fmt.Fprintln(w, hex.EncodeToString(p))
	}
}

// payload is what a TCP segment of a port carries in an Ethernet frame of
// IPv4; nil for anything else.
func payload(frame []byte, port uint16) []byte {
	const ethernet = 14
	if len(frame) < ethernet+20 || !bytes.Equal(frame[12:14], []byte{0x08, 0x00}) {
		return nil
	}
	ip := frame[ethernet:]
	head, total := int(ip[0]&0x0f)*4, int(ip[2])<<8|int(ip[3])
	if ip[9] != 6 || total > len(ip) || head+20 > total {
		return nil
	}
	tcp := ip[head:total]
	from, to := uint16(tcp[0])<<8|uint16(tcp[1]), uint16(tcp[2])<<8|uint16(tcp[3])
	offset := int(tcp[12]>>4) * 4
	if (from != port && to != port) || offset >= len(tcp) {
		return nil
	}
	return tcp[offset:]
}
