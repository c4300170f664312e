package snapshot

import (
	rpc "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
)

type metrics struct{}

func newMetrics() *metrics { return &metrics{} }

func (m *metrics) unanswered(kind)                           {}
func (m *metrics) impatient()                                {}
func (m *metrics) pushed(kind, int)                          {}
func (m *metrics) staleNonce(kind)                           {}
func (m *metrics) unknownType()                              {}
func (m *metrics) rejected(kind, *config.Proxy, *rpc.Status) {}
func (m *metrics) shed(string)                               {}
func (m *metrics) slowReader()                               {}
func (m *metrics) connected(*config.Proxy, int)              {}
