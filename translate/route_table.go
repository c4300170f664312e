package translate

// routeTable is one RouteConfiguration that some listener asks for. Listeners
// decide which tables exist, routes fill them.
type routeTable struct {
	// Name is the RDS name: "80", "host:port" for one sniffed port of one
	// service, "http.8080" or "https.443.<port>.<gateway>.<ns>" for gateways.
	Name string
	// Port is the service port that the listener stands for; 0 for a Sidecar
	// listener that speaks for every port (HTTP_PROXY).
	Port uint32
	// Egress is the outbound view; nil for gateways.
	Egress *Egress
	// Only, if not nil, limits the table to one service: listeners that sniff
	// are made for one service's address.
	Only *VisibleService
	// Servers are the gateway servers whose hosts the table answers; empty
	// for sidecars.
	Servers []*GatewayServer
}
