package simulate

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Conn is one connection as it reaches an Envoy.
type Conn struct {
	// Destination is where the client connected to, before any redirection.
	Destination netip.AddrPort
	Source      netip.Addr
	// TLS is what the client begins with; nil for plaintext.
	TLS *ClientTLS
	// HTTP is the request on the connection; nil for bytes that are none.
	// Inside of TLS it shows only after a chain has taken the TLS off.
	HTTP *HTTP
}

// ClientTLS is a client's side of a TLS handshake.
type ClientTLS struct {
	SNI  string   `json:"sni,omitempty"`
	ALPN []string `json:"alpn,omitempty"`
	// Identity is the URI in the client's certificate; empty without one.
	Identity string `json:"identity,omitempty"`
	// Mesh: both sides use the mesh's own certificates. Those of other servers
	// are not known here and taken to be valid.
	Mesh bool `json:"mesh,omitempty"`
	// Certificate is that of a client that is not of the mesh.
	Certificate *Certificate `json:"certificate,omitempty"`
}

// HTTP is one request.
type HTTP struct {
	Method    string
	Scheme    string // http or https, as the client sees it
	Authority string
	Path      string // with query
	Header    Header
	// HTTP2: sent as HTTP/2.
	HTTP2 bool
	// Claims are those of the request's token; nil without a token. The token
	// is taken to be validly signed. TokenText stands for it elsewhere.
	Claims map[string]any
}

func (h *HTTP) clone() *HTTP {
	out := *h
	out.Header = slices.Clone(h.Header)
	return &out
}

// preflight reports whether a browser asks if another site may send a request
// (CORS protocol, section 3.2.2).
func (h *HTTP) preflight() bool {
	origin, _ := h.get("origin")
	method, _ := h.get("access-control-request-method")
	return h.Method == http.MethodOptions && origin != "" && method != ""
}

// path is Path without query and fragment.
func (h *HTTP) path() string {
	if i := strings.IndexAny(h.Path, "?#"); i >= 0 {
		return h.Path[:i]
	}
	return h.Path
}

func (h *HTTP) query() string {
	_, q, _ := strings.Cut(h.Path, "?")
	q, _, _ = strings.Cut(q, "#")
	return q
}

// get is a header's value: all of its values, joined by commas.
func (h *HTTP) get(name string) (value string, present bool) {
	values := h.values(name)
	return strings.Join(values, ","), len(values) > 0
}

// values are those of a header. Pseudo headers have names that begin with a
// colon.
func (h *HTTP) values(name string) []string {
	switch strings.ToLower(name) {
	case ":method":
		return []string{h.Method}
	case ":authority", "host":
		return []string{h.Authority}
	case ":path":
		return []string{h.Path}
	case ":scheme":
		return []string{h.Scheme}
	}
	return h.Header.values(name)
}

// Header is a request's or response's headers in order.
type Header []Field

// Field is one header.
type Field struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

func (h Header) values(name string) []string {
	var out []string
	for _, f := range h {
		if strings.EqualFold(f.Name, name) {
			out = append(out, f.Value)
		}
	}
	return out
}

// without returns the headers but for those of a name.
func (h Header) without(name string) Header {
	return slices.DeleteFunc(slices.Clone(h), func(f Field) bool { return strings.EqualFold(f.Name, name) })
}
