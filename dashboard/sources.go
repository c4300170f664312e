package dashboard

import (
	"context"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard/weightfile"
)

// All sources are called from one goroutine, four times a second while a page
// is open. They must not block, and what they return is not modified and must
// not change afterwards.

// Meshes tells the newest published Mesh, nil before the first;
// *discovery.Store is one.
type Meshes interface{ Mesh() *config.Mesh }

// Proxies tells the connected proxies, in the order in which they are shown.
type Proxies interface{ Proxies() []Proxy }

// Changes tells the last published changes, in any order.
type Changes interface{ Changes() []Change }

// Problems tells the present problems of configuration and of proxies.
type Problems interface{ Problems() []config.Problem }

// Traffic tells what clients observed.
type Traffic interface {
	// Seconds returns the finished measurements that started at or after
	// from, oldest first, of those that are still kept: at least ten seconds,
	// better the ten minutes that the page can show.
	Seconds(from time.Time) []Second
}

// WeightWriter changes the weights of a route at their source;
// *weightfile.Files is one. A refused edit is a *weightfile.Refusal.
type WeightWriter interface {
	WriteWeights(ctx context.Context, e weightfile.Edit) error
}

// Proxy is one connected proxy and what it has acknowledged.
type Proxy struct {
	ID        string // the node id
	Name      string // the pod
	Namespace string
	Type      config.ProxyType
	Version   string // of Envoy
	Connected time.Time
	Syncs     []Sync // by resource type, in the order in which they are shown
}

// Status is how far a proxy is with one resource type, in the words of
// istioctl proxy-status.
type Status string

// The statuses.
const (
	Synced   Status = "SYNCED"   // what was sent last is acknowledged
	Stale    Status = "STALE"    // sent, not acknowledged yet
	NotSent  Status = "NOT SENT" // nothing of this type was due
	Rejected Status = "ERROR"    // the proxy refused what was sent last
)

// Sync is one proxy's state of one resource type.
type Sync struct {
	Type      string // CDS, EDS, LDS, RDS
	Status    Status
	Resources int // acknowledged; -1 unknown
	// Rejection is why the proxy refused, for status Rejected: the message is
	// the proxy's, the object the one that the resource was made of, where it
	// is known.
	Rejection *config.Problem
}

// Change is one published state of the mesh on its way to the proxies that it
// concerns.
type Change struct {
	ID uint64 // increases
	At time.Time
	// Objects are what was put or removed, perhaps not all ObjectCount of
	// them. None: the first configuration.
	Objects     []config.Key
	ObjectCount int
	// Proxies is how many connected proxies the change concerns, Reached how
	// many of them have acknowledged it, Last how long the slowest of these
	// took.
	Proxies, Reached int
	Last             time.Duration
	// Arrivals are the proxies that have acknowledged it, in order, perhaps
	// not all of them.
	Arrivals []Arrival
}

// Arrival is a proxy's acknowledgement of a change.
type Arrival struct {
	Proxy string        // name.namespace
	After time.Duration // Change.At
}

// Second is what clients observed in a short time, usually a second.
type Second struct {
	Start, End time.Time
	Answers    []Answers
	// Unanswered counts requests that no workload answered: a proxy's own
	// error, a refused connection, a timeout.
	Unanswered int
	// LastError describes one of the failed requests, if any: "503 from
	// gateway: no healthy upstream".
	LastError string
}

// Answers are the requests that one workload answered.
type Answers struct {
	Namespace string
	Workload  string // the controller's name, or the pod's without one
	Requests  int    // failed ones included
	Errors    int    // 5xx
	// P50 and P99 are latency quantiles as the client saw them; 0 unknown.
	P50, P99 time.Duration
}

// Options are what a page shows and may do. Sources that are nil leave their
// part of the page out.
type Options struct {
	// Title says what is shown, such as the folder's name.
	Title    string
	Meshes   Meshes // required
	Proxies  Proxies
	Changes  Changes
	Problems Problems
	Traffic  Traffic
	// Weights makes the page able to move weights; nil makes it read-only.
	Weights WeightWriter
	// Hosts are the names, without port, that the page may be asked for
	// besides localhost and loopback addresses.
	Hosts []string
}
