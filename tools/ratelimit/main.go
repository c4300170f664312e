// Command ratelimit is Envoy's rate limit service with a Redis of its own in
// the same process, for the tests of rate limits. The service is set up by the
// environment variables of github.com/envoyproxy/ratelimit, but for those of
// its backend.
package main

import (
	"log"
	"os"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/envoyproxy/ratelimit/src/service_cmd/runner"
	"github.com/envoyproxy/ratelimit/src/settings"
)

func main() {
	redis, err := miniredis.Run()
	if err != nil {
		log.Fatal(err)
	}
	for name, value := range map[string]string{"BACKEND_TYPE": "redis", "REDIS_SOCKET_TYPE": "tcp", "REDIS_URL": redis.Addr()} {
		if err := os.Setenv(name, value); err != nil {
			log.Fatal(err)
		}
	}
	// Its clock stands still unless it is moved, and no counter would end.
	go func() {
		for range time.Tick(time.Second) {
			redis.FastForward(time.Second)
		}
	}()
	r := runner.NewRunner(settings.NewSettings())
	r.Run()
}
