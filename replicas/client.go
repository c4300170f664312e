package replicas

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/replicas/held"
)

// Set are a control plane's replicas. Addresses returns the base URL of the
// debug pages of each of them as there are at the moment, at least one; what
// it opens to reach them lasts until Close. Addresses may be called again
// and again, by one goroutine.
type Set interface {
	Addresses(ctx context.Context) ([]string, error)
	Close()
}

// Fixed are replicas at known addresses.
type Fixed []string

// Addresses implements Set.
func (f Fixed) Addresses(context.Context) ([]string, error) { return f, nil }

// Close implements Set.
func (f Fixed) Close() {}

// Client asks the replicas of a Set.
type Client struct {
	Set Set
	// Token is a service account's for audience istio-ca; replicas on this machine,
	// and those that are reached by a port-forward, need none.
	Token string
}

// Bounds of one request for a page.
const (
	pageTimeout = 10 * time.Second
	largestPage = 64 << 20
)

// Held asks every replica about an object.
func (c *Client) Held(ctx context.Context, kind, namespace, name string) ([]held.Page, error) {
	urls, err := c.Set.Addresses(ctx)
	if err != nil {
		return nil, err
	}
	query := url.Values{"kind": {kind}, "namespace": {namespace}, "name": {name}}.Encode()
	out := make([]held.Page, len(urls))
	for i, base := range urls {
		if err := c.get(ctx, strings.TrimSuffix(base, "/")+"/debug/held?"+query, &out[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", base, err)
		}
	}
	return out, nil
}

func (c *Client) get(ctx context.Context, address string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return err
	}
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // the caller knows the address
		}
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestPage))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %.200s", resp.Status, strings.TrimSpace(string(body)))
	}
	return json.Unmarshal(body, into)
}
