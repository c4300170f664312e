package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/ca"
)

// How an authority stands is read as a whole, in each format.
func TestShowCA(t *testing.T) {
	at := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	states := []ca.State{
		{Phase: ca.Distributing, Since: at, Asked: ca.Hurry, Roots: []ca.TrustedRoot{{Subject: "O=a", Expires: at}, {Subject: "O=b", Expires: at}}},
		{PlugIn: true, Roots: []ca.TrustedRoot{}},
	}
	var b strings.Builder
	for _, format := range []string{"text", "json", "yaml"} {
		for _, s := range states {
			b.WriteString("$ pilotfish ca status -o " + format + "\n")
			if err := showCA(&b, format, s); err != nil {
				t.Fatal(err)
			}
		}
	}
	golden(t, "ca-status.txt", b.String())
}
