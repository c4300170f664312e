package ca

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/peer"
)

// Caller is who has proven to be calling.
type Caller struct {
	Identity
	// Pod and PodUID are those that the credential is bound to; empty if it is
	// bound to none: a certificate, or a token that somebody made by hand.
	Pod, PodUID string
	// By says what proved it: ByToken or ByCertificate.
	By      string
	Address netip.Addr // where the call came from; may be invalid
}

// What proves who a Caller is.
const (
	ByToken       = "token"
	ByCertificate = "certificate"
)

// Tokens says who a bearer token is of. The error is a Refusal, unless the
// answer could not be had.
type Tokens interface {
	Review(ctx context.Context, token string) (Caller, error)
}

// errNoMesh: it is too early to say who anybody is.
var errNoMesh = errors.New("the mesh's trust domain is not known yet")

// Authenticator proves who calls a gRPC service.
type Authenticator struct {
	// Tokens reviews bearer tokens; nil refuses them.
	Tokens Tokens
	// Domains returns the mesh's trust domain first, then its aliases; none
	// while they are not known.
	Domains func() []string
	// Revoked, unless nil, returns an error if a certificate of a verified chain
	// is revoked.
	Revoked func(chain []*x509.Certificate) error
	// HangUp, unless nil, is told of a call that is refused for its certificate,
	// which has expired or was revoked since the connection began: it should end
	// the connection. A connection keeps its certificate, so every further call by
	// it would be refused, although the client may have a new one long since. What
	// else runs on the connection ends with it, and begins again by the new one.
	// Where nothing is refused, what was let in runs on: the time of a certificate,
	// like that of a token, decides when a call begins.
	HangUp func(ctx context.Context)
	// Now is the clock; nil for time.Now.
	Now func() time.Time
}

// Authenticate proves who makes a call: by its certificate, which must be
// valid now, not only when the connection began; or by its bearer token. With
// both, both must be good and name the same workload. The error is a Refusal
// unless the answer could not be had.
func (a *Authenticator) Authenticate(ctx context.Context) (Caller, error) {
	domains := a.Domains()
	if len(domains) == 0 {
		return Caller{}, errNoMesh
	}
	byCertificate, shown, err := a.certificate(ctx, domains)
	if err != nil {
		if a.HangUp != nil {
			a.HangUp(ctx)
		}
		return Caller{}, err
	}
	token, given, err := bearer(ctx)
	switch {
	case err != nil:
		return Caller{}, err
	case !given && !shown:
		return Caller{}, refuse(Unauthenticated, "the call carries no credential: want a client certificate, or a bearer token for audience %s", Audience)
	case !given:
		return byCertificate, nil
	case a.Tokens == nil:
		return Caller{}, refuse(Unauthenticated, "bearer tokens cannot be reviewed: there is no API server")
	}
	byToken, err := a.Tokens.Review(ctx, token)
	if err != nil {
		return Caller{}, err
	}
	byToken.TrustDomain, byToken.By, byToken.Address = domains[0], ByToken, addressOf(ctx)
	if shown && byCertificate.Identity != byToken.Identity {
		return Caller{}, refuse(Unauthenticated, "the client's certificate is of %s, its token of %s", byCertificate.Identity, byToken.Identity)
	}
	return byToken, nil
}

// AuthenticateHTTP is Authenticate for an HTTP request.
func (a *Authenticator) AuthenticateHTTP(r *http.Request) (Caller, error) {
	from := &peer.Peer{}
	if at, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		from.Addr = net.TCPAddrFromAddrPort(at)
	}
	if r.TLS != nil {
		from.AuthInfo = credentials.TLSInfo{State: *r.TLS}
	}
	ctx := peer.NewContext(r.Context(), from)
	return a.Authenticate(metadata.NewIncomingContext(ctx, metadata.MD{"authorization": r.Header.Values("Authorization")}))
}

// certificate is the caller that a client certificate proves.
func (a *Authenticator) certificate(ctx context.Context, domains []string) (c Caller, shown bool, err error) {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return c, false, nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return c, false, nil
	}
	now := time.Now
	if a.Now != nil {
		now = a.Now
	}
	leaf := info.State.VerifiedChains[0][0]
	if t := now(); t.After(leaf.NotAfter) || t.Before(leaf.NotBefore) {
		return c, true, refuse(Unauthenticated, "the client's certificate was valid from %s to %s only",
			leaf.NotBefore.UTC().Format(time.RFC3339), leaf.NotAfter.UTC().Format(time.RFC3339))
	}
	if a.Revoked != nil {
		if err := a.Revoked(info.State.VerifiedChains[0]); err != nil {
			return c, true, refuse(Unauthenticated, "the client's certificate is not good: %v", err)
		}
	}
	id, err := IdentityOf(leaf)
	if err != nil {
		return c, true, refuse(Unauthenticated, "the client's certificate names no workload: %v", err)
	}
	for _, d := range domains {
		if id.TrustDomain == d {
			id.TrustDomain = domains[0]
			return Caller{Identity: id, By: ByCertificate, Address: addressOf(ctx)}, true, nil
		}
	}
	return c, true, refuse(Unauthenticated, "the client's certificate is of trust domain %s, want one of %v", id.TrustDomain, domains)
}

// bearer is the token of the call's metadata.
func bearer(ctx context.Context) (token string, given bool, err error) {
	md, _ := metadata.FromIncomingContext(ctx)
	values := md.Get("authorization")
	if len(values) == 0 {
		return "", false, nil
	}
	scheme, token, ok := strings.Cut(values[0], " ")
	if len(values) > 1 || !ok || !strings.EqualFold(scheme, "bearer") || token == "" {
		return "", true, refuse(Unauthenticated, "the call's authorization is not one bearer token")
	}
	return token, true, nil
}

func addressOf(ctx context.Context) netip.Addr {
	p, ok := peer.FromContext(ctx)
	if !ok || p.Addr == nil {
		return netip.Addr{}
	}
	at, err := netip.ParseAddrPort(p.Addr.String())
	if err != nil {
		return netip.Addr{}
	}
	return at.Addr().Unmap()
}
