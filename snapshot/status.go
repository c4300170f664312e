package snapshot

import (
	"sort"
	"strconv"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Sync says how far a proxy is with one resource type.
type Sync string

// The states, as istioctl names them.
const (
	// NotSent: the proxy has not asked for the type, or was sent nothing.
	NotSent Sync = "NOT SENT"
	// Synced: everything that is offered was acknowledged.
	Synced Sync = "SYNCED"
	// Stale: something is on its way, or waits for the proxy.
	Stale Sync = "STALE"
	// Failed: the proxy rejected the last response.
	Failed Sync = "ERROR"
)

// ProxyStatus is one connected proxy.
type ProxyStatus struct {
	Proxy     *config.Proxy
	Protocol  string // delta or sotw
	Connected time.Time
	// Sequence is that of the newest Mesh that changed what it is offered.
	Sequence uint64
	Types    []TypeStatus // in the order of sending
}

// Sync is the state of all types together: the worst one.
func (s *ProxyStatus) Sync() Sync {
	worst := NotSent
	rank := map[Sync]int{NotSent: 0, Synced: 1, Stale: 2, Failed: 3}
	for _, t := range s.Types {
		if rank[t.Sync] > rank[worst] {
			worst = t.Sync
		}
	}
	return worst
}

// TypeStatus is a proxy's state for one resource type.
type TypeStatus struct {
	Type     string // the type URL
	Short    string // cds, eds, …
	Sync     Sync
	Sent     string // the version last sent
	Acked    string // the version last acknowledged
	Nonce    string // of the last response
	SentAt   time.Time
	AckedAt  time.Time
	Error    string // what the proxy said when it rejected the last response
	Rejected map[string]string
}

// Proxies returns the connected proxies, by id.
func (s *Server) Proxies() []ProxyStatus {
	var out []ProxyStatus
	for _, st := range s.list() {
		if status, ok := st.status(); ok {
			out = append(out, status)
		}
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Proxy.ID < out[j].Proxy.ID })
	return out
}

// status describes a stream; not ok before the proxy was let in.
func (s *stream) status() (ProxyStatus, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seat == nil {
		return ProxyStatus{}, false
	}
	now := s.seat.offered()
	out := ProxyStatus{Proxy: s.proxy, Protocol: s.protocol.String(), Connected: s.since, Sequence: now.sequence}
	for k := range kinds {
		out.Types = append(out.Types, s.feeds[k].status(k, s.offered(now, k)))
	}
	return out, true
}

// offered is what the client is offered of a kind in a view that it may not
// have taken up yet.
func (s *stream) offered(v *view, k kind) layers {
	if k == secrets {
		return s.now(k)
	}
	return v.layers[k]
}

func (f *feed) status(k kind, now layers) TypeStatus {
	t := TypeStatus{
		Type: k.url(), Short: k.String(), Sync: NotSent, SentAt: f.sentAt, AckedAt: f.ackedAt, Error: f.lastError,
	}
	if f.nonce > 0 {
		t.Sent, t.Nonce = f.version.String(), strconv.FormatUint(f.nonce, 10)
	}
	if !f.ackedAt.IsZero() {
		t.Acked = f.acked.String()
	}
	for name, v := range f.refused {
		if t.Rejected == nil {
			t.Rejected = map[string]string{}
		}
		t.Rejected[name] = v.String()
	}
	switch {
	case !f.open:
	case f.lastError != "" || len(f.refused) > 0:
		t.Sync = Failed
	case !f.settled(now) || len(f.held) > 0:
		t.Sync = Stale
	case f.used:
		t.Sync = Synced
	}
	return t
}

// Sent is what a proxy has of one resource type, as far as the Server knows. A
// name table is listed while it is the newest.
type Sent struct {
	Type      string // the type URL
	Resources []*translate.Resource
}

// Config returns what the proxy of that id was sent, by type in the order of
// sending; nil if no such proxy is connected. Resources that it rejected are
// not among it.
func (s *Server) Config(proxyID string) []Sent {
	for _, st := range s.list() {
		st.mu.Lock()
		found := st.seat != nil && st.proxy.ID == proxyID
		var out []Sent
		if found {
			out = st.config()
		}
		st.mu.Unlock()
		if found {
			return out
		}
	}
	return nil
}

// config lists what the client has. s.mu is held.
func (s *stream) config() []Sent {
	out := make([]Sent, 0, kinds)
	for k := range kinds {
		f := &s.feeds[k]
		if !f.open {
			continue
		}
		sent := Sent{Type: k.url()}
		if s.complete(k) {
			sent.Resources = f.has.all()
		} else {
			sent.Resources = f.offered()
		}
		sort.Slice(sent.Resources, func(i, j int) bool { return sent.Resources[i].Name < sent.Resources[j].Name })
		out = append(out, sent)
	}
	if s.dns.open {
		if table := s.server.cache.nameTable(s.seat); table != nil && table.Version == s.dns.sent {
			out = append(out, Sent{translate.NameTableType, []*translate.Resource{table}})
		}
	}
	return out
}

// offered lists what the client was sent, but for what it refused.
func (f *feed) offered() (out []*translate.Resource) {
	for _, l := range f.have {
		for _, r := range l.all() {
			if f.wants(r.Name) && !f.refuses(r) {
				out = append(out, r)
			}
		}
	}
	for _, r := range f.held {
		if len(r.Body) > 0 {
			out = append(out, r)
		}
	}
	return out
}
