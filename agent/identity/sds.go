package identity

import (
	"context"
	"errors"
	"hash/fnv"
	"io"
	"os"
	"slices"
	"strconv"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secret "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilotfish-mesh/pilotfish/agent"
)

// secretType is the type URL of what SDS serves.
const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// Register serves the secrets on a gRPC server. Who can reach it is given the
// key, so it listens where only the proxy can connect.
func (s *Source) Register(g *grpc.Server) {
	secret.RegisterSecretDiscoveryServiceServer(g, &server{source: s})
}

type server struct {
	secret.UnimplementedSecretDiscoveryServiceServer
	source *Source
}

// StreamSecrets serves one subscription (xDS protocol, state of the world).
// A name that nobody has is not answered.
func (v *server) StreamSecrets(stream secret.SecretDiscoveryService_StreamSecretsServer) error {
	requests := make(chan *discovery.DiscoveryRequest)
	ended := make(chan error, 1)
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case requests <- r:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	sub := subscription{stream: stream, log: v.source.options.Log, sent: map[string]string{}}
	for {
		st := v.source.current.Load()
		if err := sub.send(st); err != nil {
			return err
		}
		select {
		case r := <-requests:
			sub.take(r)
		case <-st.changed:
		case err := <-ended:
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		case <-stream.Context().Done():
			return context.Cause(stream.Context())
		}
	}
}

// subscription is what one stream asked for and was sent.
type subscription struct {
	stream secret.SecretDiscoveryService_StreamSecretsServer
	log    *zap.Logger
	names  []string
	sent   map[string]string // version by name
	nonce  uint64
}

func (b *subscription) take(r *discovery.DiscoveryRequest) {
	if d := r.GetErrorDetail(); d != nil {
		b.log.Error("Envoy refuses a secret; it stays with the one of before",
			zap.Strings("names", r.GetResourceNames()), zap.String("reason", d.GetMessage()))
	}
	for _, n := range r.GetResourceNames() {
		if n != agent.CertificateSecret && n != agent.RootsSecret && !slices.Contains(b.names, n) {
			b.log.Warn("Envoy asks the agent for a secret that it does not have", zap.String("name", n))
		}
	}
	b.names = r.GetResourceNames()
	for n := range b.sent {
		if !slices.Contains(b.names, n) {
			delete(b.sent, n)
		}
	}
}

// send sends what was asked for and has changed since.
func (b *subscription) send(st *state) error {
	out := &discovery.DiscoveryResponse{TypeUrl: secretType}
	for _, n := range b.names {
		v := st.versions[n]
		if v == "" || b.sent[n] == v {
			continue
		}
		a, err := anypb.New(st.secret(n))
		if err != nil {
			return err
		}
		out.Resources = append(out.Resources, a)
		out.VersionInfo += v
		b.sent[n] = v
	}
	if len(out.Resources) == 0 {
		return nil
	}
	b.nonce++
	out.Nonce = strconv.FormatUint(b.nonce, 10)
	return b.stream.Send(out)
}

func (st *state) secret(name string) *tlsv3.Secret {
	if name == agent.CertificateSecret {
		return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: inline(st.cert.ChainPEM), PrivateKey: inline(st.cert.KeyPEM),
		}}}
	}
	check := &tlsv3.CertificateValidationContext{TrustedCa: inline(st.roots)}
	if len(st.revoked) > 0 {
		check.Crl = inline(st.revoked)
	}
	return &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_ValidationContext{ValidationContext: check}}
}

func inline(b []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: b}}
}

// version names content that is no secret: a chain or roots.
func version(content []byte) string {
	h := fnv.New64a()
	_, _ = h.Write(content)
	return strconv.FormatUint(h.Sum64(), 36)
}

// removeSocket makes way for a listener after a process that did not end well.
func removeSocket(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}
