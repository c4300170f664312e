package telemetry

import (
	"encoding/json"
	"slices"
	"strings"
)

// metric is a standard metric, one bit of a set.
type metric uint16

const (
	requestCount metric = 1 << iota
	requestDuration
	requestSize
	responseSize
	requestMessages
	responseMessages
	opened
	closed
	sent
	received

	ofRequests    = requestCount | requestDuration | requestSize | responseSize | requestMessages | responseMessages
	ofConnections = opened | closed | sent | received
)

// metricsByName are the names of the Telemetry API.
var metricsByName = map[string]metric{
	"REQUEST_COUNT": requestCount, "REQUEST_DURATION": requestDuration, "REQUEST_SIZE": requestSize, "RESPONSE_SIZE": responseSize,
	"GRPC_REQUEST_MESSAGES": requestMessages, "GRPC_RESPONSE_MESSAGES": responseMessages,
	"TCP_OPENED_CONNECTIONS": opened, "TCP_CLOSED_CONNECTIONS": closed, "TCP_SENT_BYTES": sent, "TCP_RECEIVED_BYTES": received,
}

// change is what is not as usual about some metrics of a log, as translation
// writes it behind the log's name.
type change struct {
	Metrics  []string          `json:"metrics"`
	Disabled bool              `json:"disabled"`
	Remove   []string          `json:"remove"`
	Set      map[string]string `json:"set"` // labels, by the custom tag of their values
}

// group is metrics that have the same labels.
type group struct {
	metrics metric
	remove  []string
	set     []setLabel // by label
}

type setLabel struct{ label, tag string }

// plain groups have the usual labels.
func (g *group) plain() bool { return len(g.remove) == 0 && len(g.set) == 0 }

// logOf reads a log's name: whether it is that of the inbound side, and the
// groups of its metrics. Changes that cannot be read count as none.
func logOf(name string) (inbound bool, groups []group) {
	name, text, _ := strings.Cut(name, " ")
	inbound = name == inboundLog
	rest := group{metrics: ofRequests | ofConnections}
	var list []change
	if text == "" || json.Unmarshal([]byte(text), &list) != nil {
		return inbound, []group{rest}
	}
	for _, c := range list {
		g := group{remove: c.Remove}
		for _, n := range c.Metrics {
			g.metrics |= metricsByName[n]
		}
		rest.metrics &^= g.metrics
		if c.Disabled {
			continue
		}
		for label, tag := range c.Set {
			g.set = append(g.set, setLabel{label, tag})
		}
		slices.SortFunc(g.set, func(a, b setLabel) int { return strings.Compare(a.label, b.label) })
		groups = append(groups, g)
	}
	if rest.metrics != 0 {
		groups = append(groups, rest)
	}
	return inbound, groups
}
