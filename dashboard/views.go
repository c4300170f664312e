package dashboard

import (
	"cmp"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// The types of this file are the page's JSON. Times are Unix seconds with
// fractions, durations milliseconds; web/src/model.ts mirrors them.

type pageView struct {
	Boot     string   `json:"boot"` // differs after a restart of the server
	Title    string   `json:"title"`
	Now      float64  `json:"now"`  // the server's clock
	Keep     float64  `json:"keep"` // seconds of history
	Writable bool     `json:"writable"`
	Sections []string `json:"sections"` // those that will come
}

type proxyView struct {
	ID        string     `json:"id"`
	Name      string     `json:"name"`
	Namespace string     `json:"namespace"`
	Type      string     `json:"type"`
	Version   string     `json:"version,omitempty"`
	Connected float64    `json:"connected,omitempty"`
	Syncs     []syncView `json:"syncs"`
}

type syncView struct {
	Type      string       `json:"type"`
	Status    Status       `json:"status"`
	Resources int          `json:"resources"` // -1 unknown
	Rejection *problemView `json:"rejection,omitempty"`
}

type problemView struct {
	Object   string          `json:"object,omitempty"`
	Field    string          `json:"field,omitempty"`
	Severity config.Severity `json:"severity"`
	Code     string          `json:"code"`
	Message  string          `json:"message"`
	File     string          `json:"file,omitempty"`
	Line     int             `json:"line,omitempty"`
}

type changeView struct {
	ID       uint64        `json:"id"`
	At       float64       `json:"at"`
	Objects  []objectView  `json:"objects"`
	More     int           `json:"more,omitempty"` // objects that are not listed
	Proxies  int           `json:"proxies"`
	Reached  int           `json:"reached"`
	Last     float64       `json:"last"` // milliseconds
	Arrivals []arrivalView `json:"arrivals"`
}

type objectView struct {
	Object string `json:"object"`
	Gone   bool   `json:"gone,omitempty"`
	File   string `json:"file,omitempty"`
	Line   int    `json:"line,omitempty"`
}

type arrivalView struct {
	Proxy string  `json:"proxy"`
	After float64 `json:"after"` // milliseconds
}

type secondView struct {
	At       float64               `json:"at"` // its end
	Length   float64               `json:"length"`
	Requests int                   `json:"requests"`
	Errors   int                   `json:"errors"`
	Error    string                `json:"error,omitempty"` // one of them
	By       map[string]answerView `json:"by"`              // by series
}

type answerView struct {
	Requests int     `json:"n"`
	Errors   int     `json:"e,omitempty"`
	P50      float64 `json:"p50,omitempty"` // milliseconds
	P99      float64 `json:"p99,omitempty"`
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func viewProblem(p config.Problem) problemView {
	v := problemView{Field: p.Field, Severity: p.Severity, Code: p.Code, Message: p.Message, File: p.File, Line: p.Line}
	if p.Object.Kind != "" {
		v.Object = p.Object.String()
	}
	return v
}

func viewProblems(problems []config.Problem) []problemView {
	out := make([]problemView, len(problems))
	for i, p := range problems {
		out[i] = viewProblem(p)
	}
	return out
}

func viewProxies(proxies []Proxy) []proxyView {
	out := make([]proxyView, len(proxies))
	for i, p := range proxies {
		v := proxyView{
			ID: p.ID, Name: p.Name, Namespace: p.Namespace, Type: string(p.Type),
			Version: p.Version, Connected: unix(p.Connected), Syncs: make([]syncView, len(p.Syncs)),
		}
		for j, s := range p.Syncs {
			v.Syncs[j] = syncView{Type: s.Type, Status: s.Status, Resources: s.Resources}
			if s.Rejection != nil {
				r := viewProblem(*s.Rejection)
				v.Syncs[j].Rejection = &r
			}
		}
		out[i] = v
	}
	return out
}

// What the page lists at most of changes, and of one change.
const (
	maxChanges  = 30
	maxObjects  = 20
	maxArrivals = 50
)

// viewChanges lists the newest change first. The objects' places are those in
// m, which may be newer than the change.
func viewChanges(changes []Change, m *config.Mesh) []changeView {
	changes = slices.Clone(changes)
	slices.SortFunc(changes, func(a, b Change) int { return cmp.Compare(b.ID, a.ID) })
	changes = changes[:min(len(changes), maxChanges)]
	out := make([]changeView, len(changes))
	for i, c := range changes {
		v := changeView{
			ID: c.ID, At: unix(c.At), Objects: []objectView{}, Arrivals: []arrivalView{},
			Proxies: c.Proxies, Reached: c.Reached, Last: millis(c.Last),
		}
		for _, o := range c.Objects[:min(len(c.Objects), maxObjects)] {
			v.Objects = append(v.Objects, viewObject(o, m))
		}
		v.More = max(c.ObjectCount, len(c.Objects)) - len(v.Objects)
		for _, a := range c.Arrivals[:min(len(c.Arrivals), maxArrivals)] {
			v.Arrivals = append(v.Arrivals, arrivalView{a.Proxy, millis(a.After)})
		}
		out[i] = v
	}
	return out
}

func viewObject(key config.Key, m *config.Mesh) objectView {
	v := objectView{Object: key.String()}
	if meta, known := lookUp(m, key); known {
		v.Gone = meta == nil
		if meta != nil {
			v.File, v.Line = meta.File, meta.Line
		}
	}
	return v
}

// lookUp finds an object of one of the kinds that people edit; known is false
// for other kinds.
func lookUp(m *config.Mesh, key config.Key) (meta *config.Meta, known bool) {
	if m == nil {
		return nil, false
	}
	switch key.Kind {
	case "VirtualService":
		return metaOf(m.VirtualServices.Get(key.Namespace, key.Name))
	case "DestinationRule":
		return metaOf(m.DestinationRules.Get(key.Namespace, key.Name))
	case "Gateway":
		if key.Group == "networking.istio.io" {
			return metaOf(m.Gateways.Get(key.Namespace, key.Name))
		}
	case "ServiceEntry":
		return metaOf(m.ServiceEntries.Get(key.Namespace, key.Name))
	case "Sidecar":
		return metaOf(m.Sidecars.Get(key.Namespace, key.Name))
	case "WorkloadEntry":
		return metaOf(m.WorkloadEntries.Get(key.Namespace, key.Name))
	}
	return nil, false
}

func metaOf[T proto.Message](o *config.Object[T], ok bool) (*config.Meta, bool) {
	if !ok {
		return nil, true
	}
	return &o.Meta, true
}

// viewSecond adds up what was observed, by series.
func viewSecond(s Second) secondView {
	v := secondView{
		At: unix(s.End), Length: s.End.Sub(s.Start).Seconds(), Requests: s.Unanswered, Errors: s.Unanswered,
		Error: s.LastError, By: map[string]answerView{},
	}
	for _, a := range s.Answers {
		name := seriesName(a)
		sum := v.By[name]
		sum.Requests += a.Requests
		sum.Errors += a.Errors
		sum.P50, sum.P99 = max(sum.P50, millis(a.P50)), max(sum.P99, millis(a.P99))
		v.By[name] = sum
		v.Requests += a.Requests
		v.Errors += a.Errors
	}
	return v
}

func seriesName(a Answers) string { return a.Namespace + "/" + a.Workload }
