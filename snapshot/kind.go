package snapshot

import "github.com/pilotfish-mesh/pilotfish/translate"

// kind is a resource type that a stream can carry.
type kind uint8

// The kinds, in the order in which a change is sent: what is pointed to before
// what points to it (xDS protocol, "Eventual consistency considerations").
const (
	clusters kind = iota
	endpoints
	secrets
	extensions
	listeners
	routes
	kinds // their number
)

// removalOrder is the order in which resources are taken away: what points
// before what is pointed to.
var removalOrder = [...]kind{listeners, routes, extensions, clusters, endpoints, secrets}

var kindNames = [kinds]struct{ url, short string }{
	clusters:   {translate.ClusterType, "cds"},
	endpoints:  {translate.EndpointType, "eds"},
	secrets:    {translate.SecretType, "sds"},
	extensions: {translate.ExtensionType, "ecds"},
	listeners:  {translate.ListenerType, "lds"},
	routes:     {translate.RouteType, "rds"},
}

// kindOf returns the kind of a type URL.
func kindOf(url string) (kind, bool) {
	for k := range kinds {
		if kindNames[k].url == url {
			return k, true
		}
	}
	return 0, false
}

func (k kind) url() string { return kindNames[k].url }

// String is the usual abbreviation, as metrics name it: cds, eds, ….
func (k kind) String() string { return kindNames[k].short }

// whole reports whether a SotW response of the kind must hold every resource,
// since one that is missing counts as deleted (xDS protocol, "Deleting
// Resources"). A request without names asks for all of them (legacy wildcard).
func (k kind) whole() bool { return k == clusters || k == listeners }
