package main

import (
	"time"

	"github.com/spf13/pflag"

	"github.com/pilotfish-mesh/pilotfish/snapshot"
)

// addBounds adds the flags that bound what proxies may take of an ADS server.
func addBounds(f *pflag.FlagSet, o *snapshot.Options) {
	f.IntVar(&o.Connections, "xds-connections", 25_000, "most connections at once; more are closed, first those that no proxy was let in over")
	f.IntVar(&o.Streams, "xds-streams", 20_000, "most ADS streams at once of proxies that were let in")
	f.IntVar(&o.Strangers, "xds-strangers", 5000, "most ADS streams at once besides, whose proxy was not let in yet; more end the longest silent one")
	f.IntVar(&o.StreamsPerProxy, "xds-streams-per-proxy", 8, "most ADS streams at once of one proxy")
	f.Uint32Var(&o.StreamsPerConnection, "xds-streams-per-connection", 32, "most streams of one connection")
	f.Float64Var(&o.Connects, "xds-connects-per-second", 1000, "ADS streams that may begin a second, counted after they were authenticated; more wait")
	f.Float64Var(&o.Requests, "xds-requests-per-second", 200, "requests a second that one stream may make on average")
	f.IntVar(&o.RequestSize, "xds-request-size", 16<<20, "longest request in bytes")
	f.IntVar(&o.ResponseSize, "xds-response-size", 512<<10, "length in bytes above which a delta response is sent in several")
	f.DurationVar(&o.SendTimeout, "xds-send-timeout", 20*time.Second, "how long a proxy may not read a response before its stream is closed")
	f.DurationVar(&o.ConnectionAge, "xds-connection-age", 30*time.Minute, "age, give or take a tenth, at which a proxy is asked to connect anew")
	f.DurationVar(&o.Keepalive, "xds-keepalive", 30*time.Second, "silence after which a connection is tested")
}
