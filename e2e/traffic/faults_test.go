package traffic

import (
	"strconv"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/up/echo"
)

// failing asks the server to fail the first n requests of one key, retries
// included.
func failing(key string, n int) headers {
	return headers{echo.KeyHeader: key, echo.FailFirstHeader: strconv.Itoa(n)}
}

// TestFaults covers timeout, retries and fault.
func TestFaults(t *testing.T) {
	s := run(t, "base", "faults")
	const long = 2 * time.Second        // a busy machine's patience for what takes 0.3 s
	const early = 20 * time.Millisecond // Envoy's clock is read once per round of events: timers end early
	s.probes(t, []probe{
		{name: "timeout", url: "http://timeout.test/?delay=10s", status: 504, atLeast: 300*time.Millisecond - early, atMost: 300*time.Millisecond + long},
		{name: "within the timeout", url: "http://timeout.test/", by: "b"},
		{name: "no timeout", url: "http://no-timeout.test/?delay=700ms", by: "b", atLeast: 700*time.Millisecond - early},
		{name: "3 retries for 3 failures", url: "http://three-retries.test/", headers: failing("r3", 3), by: "b"},
		{name: "3 retries for 4 failures", url: "http://three-retries.test/", headers: failing("r4", 4), status: 503, by: "b"},
		{name: "after 4 failures", url: "http://three-retries.test/", headers: failing("r4", 4), by: "b"},
		{name: "no retries", url: "http://no-retries.test/", headers: failing("r0", 1), status: 503},
		{name: "retry on 503", url: "http://retry-codes.test/", headers: failing("c1", 1), by: "b"},
		{name: "no retry on 500", url: "http://retry-codes.test/?status=500", status: 500, by: "b"},
		{name: "not among the codes", url: "http://retry-other-codes.test/", headers: failing("c2", 1), status: 503, by: "b"},
		// Three tries of 0.2 s each.
		{name: "per try timeout", url: "http://per-try.test/?delay=10s", status: 504, atLeast: 600*time.Millisecond - early, atMost: 600*time.Millisecond + long},
		{name: "abort", url: "http://abort.test/", headers: headers{"x-user": "jason"}, status: 418, body: "fault filter abort"},
		{name: "abort, others", url: "http://abort.test/", by: "b"},
		{
			name: "abort with a gRPC status", url: "http://abort-grpc.test/s/m", method: "POST", headers: headers{"content-type": "application/grpc"},
			answers: headers{"grpc-status": "14", "grpc-message": "fault filter abort"},
		},
		{name: "abort none", url: "http://abort-never.test/", by: "b"},
		{name: "delay", url: "http://delay.test/", by: "b", atLeast: 300*time.Millisecond - early, atMost: 300*time.Millisecond + long},
		{name: "delay and abort", url: "http://delay-abort.test/", status: 503, body: "fault filter abort", atLeast: 300*time.Millisecond - early},
	})
}
