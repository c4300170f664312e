package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// An access log of both forms goes through two configurations.
func TestReplay(t *testing.T) {
	log := filepath.Join(t.TempDir(), "access.log")
	lines := []string{
		`{"authority":"shop.example.com","method":"GET","path":"/reviews/1","response_code":200,"downstream_remote_address":"203.0.113.9:4711","downstream_local_address":"198.18.0.1:8080","upstream_cluster":"outbound|80||reviews.shop.svc.cluster.local","user_agent":"curl"}`,
		`{"authority":"shop.example.com","method":"GET","path":"/reviews/1","response_code":200,"downstream_remote_address":"203.0.113.9:4712","downstream_local_address":"198.18.0.1:8080","upstream_cluster":"outbound|80||reviews.shop.svc.cluster.local","user_agent":"curl"}`,
		`{"authority":"reviews","method":"GET","path":"/","upstream_cluster":"inbound|8080||"}`,
		`[2026-11-01T10:00:00.000Z] "GET /old HTTP/1.1" 301 - direct_response - "-" 0 0 1 - "-" "curl/8" "5e6f" "reviews" "-" - - 10.110.207.148:80 10.1.2.3:5000 - old`,
		`[2026-11-01T10:00:00.000Z] "GET /cart HTTP/1.1" 404 NR route_not_found - "-" 0 0 1 - "-" "curl/8" "5e6f" "elsewhere.example.com" "-" - - 10.9.9.9:80 10.1.2.3:5000 - -`,
		`no request at all`,
	}
	if err := os.WriteFile(log, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	dir := changed(t, "prefix: /reviews", "prefix: /r2", "redirect: {uri: /new}", "redirect: {uri: /newer}")
	code, stdout, stderr := run("replay", log, "--old", shop, "--new", dir)
	if code != exitFailure || stderr != "" {
		t.Errorf("exit code %d: %s", code, stderr)
	}
	golden(t, "replay.txt", stdout)
	code, stdout, _ = run("replay", log, "--old", shop, "--new", shop)
	if code != exitOK || !strings.HasPrefix(stdout, "4 requests: 0 % answered differently, 0 fail now that worked\n") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	for _, args := range [][]string{{log}, {log + "x", "--old", shop, "--new", dir}, {log, "--old", shop, "--new", "main"}} {
		if code, _, stderr := run(append([]string{"replay"}, args...)...); code != exitUsage || stderr == "" {
			t.Errorf("%v: exit code %d, %q", args, code, stderr)
		}
	}
}
