// Package held is the debug page that says which proxies have the version of an
// object that is in effect: /debug/held?kind=VirtualService&namespace=shop&name=reviews.
//
// It is what the control plane writes and what its clients read, and nothing
// else: both sides import it, and it imports the model alone.
package held

import "github.com/pilotfish-mesh/pilotfish/config"

// Page is what one replica says of an object.
type Page struct {
	Object config.Key `json:"object"`
	// Read and Effective tell versions apart: that which the control plane has
	// read last, and that which is in effect; empty for none.
	Read       string `json:"read,omitempty"`
	Effective  string `json:"effective,omitempty"`
	Generation int64  `json:"generation,omitempty"` // of Effective
	// Proxies are those that are connected to the replica.
	Proxies []Proxy `json:"proxies"`
	// Problems are those of the object.
	Problems []config.Problem `json:"problems,omitempty"`
}

// Proxy is one proxy and the version that it has.
type Proxy struct {
	Proxy  string `json:"proxy"` // the node id
	Newest bool   `json:"newest"`
	// Generation is that of an older version, 0 for none.
	Generation int64 `json:"generation,omitempty"`
	// Why it has not the newest.
	Why string `json:"why,omitempty"`
}
