package rollout

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// Replicas are the control plane's. Addresses returns the base URL of the
// debug pages of each of them as there are at the moment, at least one; what
// it opens to reach them lasts until Close. Addresses may be called again
// and again, by one goroutine.
type Replicas interface {
	Addresses(ctx context.Context) ([]string, error)
	Close()
}

// Fixed are replicas at known addresses.
type Fixed []string

// Addresses implements Replicas.
func (f Fixed) Addresses(context.Context) ([]string, error) { return f, nil }

// Close implements Replicas.
func (f Fixed) Close() {}

// pageTimeout bounds one request for a debug page.
const pageTimeout = 10 * time.Second

// largestPage bounds what is read of one.
const largestPage = 64 << 20

// rejectedByProxy is the code of the Problems that proxies have.
const rejectedByProxy = "ProxyRejected"

// distributed is how far a version of an object has come, over all replicas.
type distributed struct {
	proxies  int
	waiting  []string
	rejected []string // what proxies say of it
	behind   int      // replicas that do not have the version in service
	replicas int
	problem  string // that the control plane has with the object
}

// done reports whether every proxy has acknowledged it.
func (d *distributed) done() bool { return d.behind == 0 && len(d.waiting) == 0 }

// String is for people.
func (d *distributed) String() string {
	switch {
	case d.behind > 0 && d.problem != "":
		return d.problem
	case d.behind > 0:
		return fmt.Sprintf("%d of %d replicas of the control plane do not have it in service", d.behind, d.replicas)
	case len(d.waiting) > 0:
		some := d.waiting[:min(3, len(d.waiting))]
		return fmt.Sprintf("%d of %d proxies have not acknowledged it, such as %s", len(d.waiting), d.proxies, strings.Join(some, ", "))
	default:
		return fmt.Sprintf("%d proxies have acknowledged it", d.proxies)
	}
}

// distribution asks every replica about a generation of a VirtualService.
func distribution(ctx context.Context, r Replicas, namespace, name string, generation int64) (*distributed, error) {
	urls, err := r.Addresses(ctx)
	if err != nil {
		return nil, fmt.Errorf("control plane: %w", err)
	}
	out := &distributed{replicas: len(urls)}
	query := "?" + url.Values{"kind": {"VirtualService"}, "namespace": {namespace}, "name": {name}}.Encode()
	for _, base := range urls {
		var page struct {
			Generation int64 `json:"generation"` // of the version in effect
			Proxies    []struct {
				Proxy  string `json:"proxy"`
				Newest bool   `json:"newest"`
			} `json:"proxies"`
			Problems []struct {
				Code, Field, Message string
			} `json:"problems"`
		}
		if err := getJSON(ctx, strings.TrimSuffix(base, "/")+"/debug/held"+query, &page); err != nil {
			return nil, fmt.Errorf("control plane: %w", err)
		}
		out.proxies += len(page.Proxies)
		for _, p := range page.Proxies {
			if !p.Newest {
				out.waiting = append(out.waiting, p.Proxy)
			}
		}
		if page.Generation < generation {
			out.behind++
		}
		for _, p := range page.Problems {
			switch {
			case p.Code == rejectedByProxy:
				out.rejected = append(out.rejected, p.Message)
			case page.Generation < generation:
				out.problem = strings.TrimPrefix(p.Field+": "+p.Message, ": ")
			}
		}
	}
	slices.Sort(out.waiting)
	return out, nil
}

func getJSON(ctx context.Context, url string, into any) error {
	ctx, cancel := context.WithTimeout(ctx, pageTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestPage))
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s: %.200s", url, resp.Status, strings.TrimSpace(string(body)))
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return nil
}
