package access

import (
	"fmt"
	"testing"
)

// spellings are ways to write a path that leads to /admin/x at some
// application. Of each there is, by normalization, what the application is
// sent, or "" where a policy that denies /admin/* takes the request for one
// to it.
var spellings = []struct {
	path                     string
	none, base, merge, decod string
}{
	{`/admin/x`, "", "", "", ""},
	{`/admin/x?q=/..`, "", "", "", ""},
	{`//admin/x`, `//admin/x`, `//admin/x`, "", ""},
	{`/admin//x`, "", "", "", ""},
	{`///admin///x`, `///admin///x`, `///admin///x`, "", ""},
	{`/./admin/x`, `/./admin/x`, "", "", ""},
	{`/public/../admin/x`, `/public/../admin/x`, "", "", ""},
	{`/../admin/x`, `/../admin/x`, "", "", ""},
	{`/public/%2e%2e/admin/x`, `/public/%2e%2e/admin/x`, "", "", ""},
	{`/public/.%2E/admin/x`, `/public/.%2E/admin/x`, "", "", ""},
	{`/%2e/admin/x`, `/%2e/admin/x`, "", "", ""},
	{`/%61dmin/x`, `/%61dmin/x`, "", "", ""},
	{`/public\..\admin\x`, `/public%5C..%5Cadmin%5Cx`, "", "", ""},
	{`/\admin/x`, `/%5Cadmin/x`, `//admin/x`, "", ""},
	{`/%2Fadmin/x`, `/%2Fadmin/x`, `/%2Fadmin/x`, `/%2Fadmin/x`, ""},
	{`/admin%2fx`, `/admin%2fx`, `/admin%2fx`, `/admin%2fx`, ""},
	{`/public/..%2fadmin/x`, `/public/..%2fadmin/x`, `/public/..%2fadmin/x`, `/public/..%2fadmin/x`, ""},
	{`/public%5c..%5cadmin/x`, `/public%5c..%5cadmin/x`, `/public%5c..%5cadmin/x`, `/public%5c..%5cadmin/x`, ""},
	{`/public/%2e%2e%2fadmin/x`, `/public/%2e%2e%2fadmin/x`, `/public/..%2fadmin/x`, `/public/..%2fadmin/x`, ""},
	// What is decoded is decoded once.
	{`/%2561dmin/x`, `/%2561dmin/x`, `/%2561dmin/x`, `/%2561dmin/x`, `/%2561dmin/x`},
	{`/%252Fadmin/x`, `/%252Fadmin/x`, `/%252Fadmin/x`, `/%252Fadmin/x`, `/%252Fadmin/x`},
	{`/ADMIN/x`, `/ADMIN/x`, `/ADMIN/x`, `/ADMIN/x`, `/ADMIN/x`},
	{`/public/../other`, `/public/../other`, `/other`, `/other`, `/other`},
	{`/other//x`, `/other//x`, `/other//x`, `/other/x`, `/other/x`},
	{`/other%2Fx`, `/other%2Fx`, `/other%2Fx`, `/other%2Fx`, `/other/x`},
}

// pathThemes are those of a policy under each normalization, and without one,
// which is BASE.
func pathThemes(policy, from string) []theme {
	var out []theme
	for _, n := range []string{"", "NONE", "BASE", "DEFAULT", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"} {
		th := theme{name: "normalization " + n, policy: policy}
		if n != "" {
			th.policy += normalization(n)
		}
		for _, s := range spellings {
			sent := map[string]string{"NONE": s.none, "MERGE_SLASHES": s.merge, "DECODE_AND_MERGE_SLASHES": s.decod, "": s.base, "BASE": s.base, "DEFAULT": s.base}[n]
			r := request{from: from, path: s.path, want: denied}
			if sent != "" {
				r.want, r.seen = ok, fmt.Sprintf(`"path":%q`, sent)
			}
			th.requests = append(th.requests, r)
		}
		th.requests = append(th.requests, request{from: from, path: "/admin/x#y", want: denied}, request{from: from, path: "/x#/admin", want: ok})
		out = append(out, th)
	}
	return out
}

func normalization(n string) string {
	return "\n---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: '{pathNormalization: {normalization: " + n + "}}'}\n"
}

const adminDenied = "[{to: [{operation: {paths: ['/admin/*']}}]}]"

// TestPathsAtSidecars: a policy decides about the very path that the
// application is sent, whatever the client has made of it.
func TestPathsAtSidecars(t *testing.T) {
	start(t).decide(pathThemes(policy("DENY", adminDenied), "default/plain"))
}

// TestPathsAtGateways: the same of a gateway's own policy, and of the
// sidecar's behind it.
func TestPathsAtGateways(t *testing.T) {
	w := startGateway(t)
	w.decide(pathThemes(atGateway("DENY", adminDenied)+routed("[{uri: {exact: /never}}]"), ""))
	w.decide(pathThemes(policy("DENY", adminDenied)+routed("[{uri: {exact: /never}}]"), ""))
}
