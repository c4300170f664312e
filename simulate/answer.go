package simulate

import (
	"net/netip"
	"time"
)

// Hop is what one Envoy does.
type Hop struct {
	// Proxy names the Envoy: "sidecar shop/web" or "gateway ns/name".
	Proxy string `json:"proxy,omitempty"`
	// Side is outbound, inbound or gateway.
	Side string `json:"side,omitempty"`
	// Sidecar is the one that says what the client's proxy may see; nil if none does.
	Sidecar *Source `json:"sidecar,omitempty"`
	// Patched are the EnvoyFilters that changed a listener, route table or
	// cluster on the way.
	Patched  []*Source `json:"envoyFilters,omitempty"`
	Listener *Decision `json:"listener,omitempty"`
	Chain    *Decision `json:"filterChain,omitempty"`
	// Downstream is how the client's connection is secured.
	Downstream *Security `json:"downstream,omitempty"`
	// Filters are the filters that could have ended the request, in order.
	Filters     []Verdict `json:"filters,omitempty"`
	RouteTable  string    `json:"routeTable,omitempty"`
	VirtualHost *Decision `json:"virtualHost,omitempty"`
	Route       *Decision `json:"route,omitempty"`
	Fault       *Fault    `json:"fault,omitempty"`
	// Sent is the request as it goes on, nil for a mere connection.
	Sent    *Sent `json:"sent,omitempty"`
	Timeout Span  `json:"timeout,omitzero"`
	// TimeoutSource is what set the timeout; nil for a default.
	TimeoutSource *Source       `json:"timeoutSource,omitempty"`
	Retries       *Retries      `json:"retries,omitempty"`
	Mirrors       []Mirror      `json:"mirrors,omitempty"`
	To            []Destination `json:"to,omitempty"`
	// Peers is the PeerAuthentication that decides how connections may come to a
	// server's port; nil if none does.
	Peers *Source `json:"peerAuthentication,omitempty"`
	// Strict: a server whose port takes mTLS only.
	Strict bool `json:"strict,omitempty"`
	// Reply is what this Envoy answers itself; nil if it lets it go on.
	Reply *Reply `json:"reply,omitempty"`
	// Unknown are the constructs that the simulator does not know and that
	// may change the answer.
	Unknown []string `json:"unknown,omitempty"`

	pod *Pod           // whose proxy it is, if it is one of a World
	to  netip.AddrPort // where the connection went
	// rest: the virtual host is that of all hosts that nobody has.
	rest bool
}

// Span is a duration, none (0 s means unlimited in Envoy) spelled out.
type Span struct {
	Set      bool
	Duration time.Duration
	// Default: Envoy's own, since nothing says otherwise.
	Default bool
}

// IsZero reports that nothing is known.
func (s Span) IsZero() bool { return !s.Set }

// String is "15s", or "none" for unlimited.
func (s Span) String() string {
	if s.Duration == 0 {
		return "none"
	}
	return s.Duration.String()
}

// MarshalText makes the JSON form the text.
func (s Span) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Decision is what was chosen among several, and why.
type Decision struct {
	Name   string  `json:"name"`
	Source *Source `json:"source,omitempty"`
	Why    string  `json:"why,omitempty"`
	// Passed are the candidates before it that did not match.
	Passed []Passed `json:"passed,omitempty"`

	// implied: nobody wrote it; Source is what it comes with.
	implied bool
}

// Written is the object that it was written in; nil for what comes with a
// Service or the mesh by itself.
func (d *Decision) Written() *Source {
	if d == nil || d.implied {
		return nil
	}
	return d.Source
}

// Passed is a candidate that did not match.
type Passed struct {
	Name   string  `json:"name"`
	Source *Source `json:"source,omitempty"`
	Why    string  `json:"why"`

	provider string // of tokens
}

// Security is how a connection is secured.
type Security struct {
	// Mode is plaintext, tls (the server's certificate only) or mtls.
	Mode string `json:"mode"`
	// Identity is the peer's, if its certificate says one.
	Identity string `json:"identity,omitempty"`
	SNI      string `json:"sni,omitempty"`
	// Passthrough: the TLS is between the applications.
	Passthrough bool `json:"passthrough,omitempty"`
	// Verifies are the names that the client requires in the server's
	// certificate.
	Verifies []string `json:"verifies,omitempty"`
	// Source is what decided it; nil for a default.
	Source *Source `json:"source,omitempty"`

	takes func(identity string) bool // what Verifies says; nil takes any
	lacks string                     // the secret that it needs and that is not there
	// principals are more than one name by which policies know the client.
	principals  []string
	certificate *Certificate // of a client outside
}

// Modes of Security.
const (
	Plaintext = "plaintext"
	TLS       = "tls"
	MTLS      = "mtls"
)

// Verdict is what a filter said about a request.
type Verdict struct {
	Filter string `json:"filter"`
	// Allowed is false where it ended the request.
	Allowed bool    `json:"allowed"`
	Why     string  `json:"why,omitempty"`
	Rule    string  `json:"rule,omitempty"` // the policy's name that decided
	Source  *Source `json:"source,omitempty"`
	// Dry: it only logs.
	Dry    bool     `json:"dry,omitempty"`
	Passed []Passed `json:"passed,omitempty"`

	provider string // of tokens
}

// Fault is what is done to a share of the requests on purpose.
type Fault struct {
	Delay        time.Duration `json:"delay,omitempty"`
	DelayPercent float64       `json:"delayPercent,omitempty"`
	Abort        int           `json:"abort,omitempty"` // HTTP status
	AbortGRPC    *uint32       `json:"abortGrpc,omitempty"`
	AbortPercent float64       `json:"abortPercent,omitempty"`
	Source       *Source       `json:"source,omitempty"`
}

// Sent is a request as an Envoy passes it on.
type Sent struct {
	Method    string `json:"method"`
	Authority string `json:"authority"`
	Path      string `json:"path"`
	// Rewritten: host or path are others than the client's.
	Rewritten bool           `json:"rewritten,omitempty"`
	Source    *Source        `json:"source,omitempty"` // of the rewriting
	Changes   []HeaderChange `json:"headerChanges,omitempty"`
	Response  []HeaderChange `json:"responseHeaderChanges,omitempty"`

	http *HTTP
}

// HeaderChange is one change to the headers.
type HeaderChange struct {
	Op    string `json:"op"` // set, add, addIfAbsent or remove
	Name  string `json:"name"`
	Value string `json:"value,omitempty"`

	Source *Source `json:"source,omitempty"`
}

// Retries is when a request is tried again.
type Retries struct {
	Attempts int           `json:"attempts"`
	On       string        `json:"on"`
	Codes    []uint32      `json:"codes,omitempty"`
	PerTry   time.Duration `json:"perTryTimeout,omitempty"`
	Source   *Source       `json:"source,omitempty"` // nil for the default
}

// Mirror is a copy of the request whose response nobody reads.
type Mirror struct {
	Cluster string  `json:"cluster"`
	Percent float64 `json:"percent"`
	Source  *Source `json:"source,omitempty"`
}

// Destination is a cluster that gets a share of the requests.
type Destination struct {
	Cluster string `json:"cluster"`
	// Percent of the requests that the route forwards.
	Percent float64 `json:"percent"`
	Source  *Source `json:"source,omitempty"`
	// Discovery is eds, static, dns, originalDst or dynamicForwardProxy.
	Discovery string `json:"discovery,omitempty"`
	Balance   string `json:"balance,omitempty"`
	// BalanceSource is what chose the balance; nil for the default.
	BalanceSource *Source `json:"balanceSource,omitempty"`
	// Sent is set where this destination changes the request more than the
	// route does.
	Sent      *Sent      `json:"sent,omitempty"`
	Endpoints []Endpoint `json:"endpoints,omitempty"`
	// Reply is Envoy's answer where no endpoint can be picked.
	Reply *Reply `json:"reply,omitempty"`
}

// Endpoint is one address that may be picked.
type Endpoint struct {
	Address string `json:"address"` // host:port, or a path
	// Percent of the cluster's requests.
	Percent  float64   `json:"percent"`
	Locality string    `json:"locality,omitempty"`
	Priority uint32    `json:"priority,omitempty"`
	Health   string    `json:"health,omitempty"` // only if not healthy
	Security *Security `json:"security,omitempty"`
	// Alpn is what the connection announces.
	ALPN []string `json:"-"`
	// Workload and Server are filled in by World: who answers there, and what
	// its proxy does.
	Workload string            `json:"workload,omitempty"`
	Source   *Source           `json:"source,omitempty"`
	Labels   map[string]string `json:"labels,omitempty"`
	Server   *Hop              `json:"server,omitempty"`
}

// Reply is an answer by Envoy itself.
type Reply struct {
	// Status is the HTTP status; 0 where the connection is closed or refused.
	Status int    `json:"status,omitempty"`
	Reason string `json:"reason"`
	// Flag is Envoy's response flag in access logs, such as NR.
	Flag     string  `json:"flag,omitempty"`
	Location string  `json:"location,omitempty"`
	Body     string  `json:"body,omitempty"`
	Source   *Source `json:"source,omitempty"`
}

// HostSource is the object that has the request's host; nil if none has.
func (h *Hop) HostSource() *Source {
	if h.VirtualHost == nil || h.rest {
		return nil
	}
	return h.VirtualHost.Source
}

func (h *Hop) unknown(what string) {
	for _, u := range h.Unknown {
		if u == what {
			return
		}
	}
	h.Unknown = append(h.Unknown, what)
}

// HeaderValue is a header of the request as it goes on: all values, joined by
// commas.
func (s *Sent) HeaderValue(name string) (value string, present bool) {
	if s == nil || s.http == nil {
		return "", false
	}
	return s.http.get(name)
}

// SentOf is a request as a server says that it got it.
func SentOf(method, authority, path string, header Header) *Sent {
	return sentOf(&HTTP{Method: method, Authority: authority, Path: path, Header: header}, nil, nil)
}
