package jwks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
)

const (
	// maxBytes is far more than any issuer has.
	maxBytes     = 1 << 20
	maxRedirects = 3
)

// client asks issuers.
type client struct{ http *http.Client }

func newClient(internal bool) *client {
	dialer := &net.Dialer{Timeout: defaultTimeout}
	if !internal {
		// The address itself is judged, after names were resolved and for each
		// connection, so that neither a name nor a redirect leads inside.
		dialer.Control = func(_, address string, _ syscall.RawConn) error { return refuseInside(address) }
	}
	return &client{http: &http.Client{
		Transport: &http.Transport{
			DialContext: dialer.DialContext, TLSHandshakeTimeout: defaultTimeout, ForceAttemptHTTP2: true,
			MaxResponseHeaderBytes: 64 << 10, MaxIdleConns: 100, IdleConnTimeout: time.Minute,
			Proxy: nil, // a proxy would connect to what this process must not
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			if len(via) > maxRedirects {
				return fmt.Errorf("more than %d redirects", maxRedirects)
			}
			return checkURL(r.URL)
		},
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// inside are addresses that are not the outside's, besides those that netip
// knows: shared (RFC 6598), for protocols (RFC 6890), for benchmarks (RFC 2544),
// reserved (RFC 1112), and IPv4 within IPv6 (RFC 6052, RFC 3056).
var inside = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("198.18.0.0/15"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("2002::/16"),
}

func refuseInside(address string) error {
	at, err := netip.ParseAddrPort(address)
	if err != nil {
		return err
	}
	ip := at.Addr().Unmap()
	bad := !ip.IsGlobalUnicast() || ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast()
	for _, p := range inside {
		bad = bad || p.Contains(ip)
	}
	if bad {
		return fmt.Errorf("%s is an address of the inside, which is not asked for keys (--jwks-internal allows it)", ip)
	}
	return nil
}

func checkURL(u *url.URL) error {
	if u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.User != nil {
		return errors.New("want an http or https URL without a user name")
	}
	return nil
}

// fetch asks a place for keys.
func (c *client) fetch(ctx context.Context, at place, timeout time.Duration) (config.KeySet, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	uri := at.uri
	if at.metadata {
		body, err := c.get(ctx, uri)
		if err != nil {
			return config.KeySet{}, err
		}
		var issuer struct {
			Keys string `json:"jwks_uri"`
		}
		if err := json.Unmarshal(body, &issuer); err != nil || issuer.Keys == "" {
			return config.KeySet{}, fmt.Errorf("the issuer's metadata at %s names no jwks_uri", uri)
		}
		uri = issuer.Keys
	}
	body, err := c.get(ctx, uri)
	if err != nil {
		return config.KeySet{}, err
	}
	set, err := config.ParseKeySet(string(body))
	if err != nil {
		return config.KeySet{}, fmt.Errorf("the answer of %s %w", uri, err)
	}
	return config.KeySet{JSON: set, Hash: config.NewHasher().Str(set).Sum()}, nil
}

func (c *client) get(ctx context.Context, uri string) ([]byte, error) {
	u, err := url.Parse(uri)
	if err != nil {
		return nil, errors.New("no URL")
	}
	if err := checkURL(u); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, uri, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s answers %s", uri, resp.Status)
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBytes+1))
	if err == nil && len(body) > maxBytes {
		err = fmt.Errorf("the answer of %s is longer than %d bytes", uri, maxBytes)
	}
	return body, err
}
