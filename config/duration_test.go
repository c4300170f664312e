package config

import (
	"testing"

	networking "istio.io/api/networking/v1alpha3"
)

// TestPlainDurations: only durations change, and no line moves.
func TestPlainDurations(t *testing.T) {
	md := (&networking.DestinationRule{}).ProtoReflect().Descriptor()
	for in, want := range map[string]string{
		`{"host": "15m"}`: `{"host": "15m"}`,
		`{"trafficPolicy": {"outlierDetection": {"interval":` + "\n" + `"15m", "baseEjectionTime": "1h30m"}}}`:          `{"trafficPolicy": {"outlierDetection": {"interval":` + "\n" + `"900s", "baseEjectionTime": "5400s"}}}`,
		`{"traffic_policy": {"connection_pool": {"tcp": {"connect_timeout": "30ms"}}}}`:                                 `{"traffic_policy": {"connection_pool": {"tcp": {"connect_timeout": "0.03s"}}}}`,
		`{"subsets": [{"labels": {"a": "3m"}, "trafficPolicy": {"loadBalancer": {"warmup": {"duration": "-1m1us"}}}}]}`: `{"subsets": [{"labels": {"a": "3m"}, "trafficPolicy": {"loadBalancer": {"warmup": {"duration": "-60.000001s"}}}}]}`,
		`{"trafficPolicy": {"outlierDetection": {"interval": "10s", "baseEjectionTime": "1.5s"}}}`:                      `{"trafficPolicy": {"outlierDetection": {"interval": "10s", "baseEjectionTime": "1.5s"}}}`,
		`{"trafficPolicy": {"outlierDetection": {"interval": "0"}}}`:                                                    `{"trafficPolicy": {"outlierDetection": {"interval": "0s"}}}`,
		`{"trafficPolicy": {"outlierDetection": {"interval": "\u0031m"}}}`:                                              `{"trafficPolicy": {"outlierDetection": {"interval": "60s"}}}`,
		`{"trafficPolicy": {"outlierDetection": {"interval": "soon"}}}`:                                                 `{"trafficPolicy": {"outlierDetection": {"interval": "soon"}}}`,
		`{"unknown": {"interval": "1m"}, "trafficPolicy": {"outlierDetection": {"interval": "1m"}}`:                     `{"unknown": {"interval": "1m"}, "trafficPolicy": {"outlierDetection": {"interval": "1m"}}`,
	} {
		if got := string(PlainDurations([]byte(in), md)); got != want {
			t.Errorf("%s\n got %s\nwant %s", in, got, want)
		}
	}
}
