package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
)

func TestShowCA(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	for want, s := range map[string]ca.State{
		"root: self-signed, in Secret istio-ca-secret\nrotation: distributing since 2030-01-02T03:04:05Z (asked for: hurry)\ntrusted:\n  O=a, until 2030-01-02T03:04:05Z\n  O=b, until 2030-01-02T03:04:05Z\n": {
			Phase: ca.Distributing, Since: at, Asked: ca.Hurry, Roots: []ca.TrustedRoot{{Subject: "O=a", Expires: at}, {Subject: "O=b", Expires: at}},
		},
		"root: plugged in by Secret cacerts\ntrusted:\n": {PlugIn: true},
	} {
		var b strings.Builder
		showCA(&b, s)
		if b.String() != want {
			t.Errorf("prints\n%s, want\n%s", b.String(), want)
		}
	}
}
