package config_test

import (
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func TestEnvoyBefore(t *testing.T) {
	for version, want := range map[string]bool{
		"": false, "1.36.4": true, "1.37.0": false, "1.40.0": false, "0.99.1": true, "2.1.0": false, "none": false,
	} {
		if got := (&config.Proxy{EnvoyVersion: version}).EnvoyBefore(1, 37); got != want {
			t.Errorf("%q before 1.37: %v, want %v", version, got, want)
		}
	}
}
