package dashboard_test

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/dashboard"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) { http.DefaultClient.CloseIdleConnections(); os.Exit(code) }))
}

type request struct {
	method, path, host, body string
	header                   http.Header
}

func ask(t *testing.T, url string, r request) (status int, body string, header http.Header) {
	t.Helper()
	req, err := http.NewRequest(r.method, url+r.path, strings.NewReader(r.body))
	if err != nil {
		t.Fatal(err)
	}
	if r.header != nil {
		req.Header = r.header.Clone()
	}
	req.Host = r.host
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b), resp.Header
}

func TestOnlyThisMachineIsAnswered(t *testing.T) {
	o := newWorld(t).options()
	o.Hosts = []string{"mesh.internal"}
	url, _ := site(t, o)
	for host, want := range map[string]int{
		"localhost:1234": 200, "127.0.0.1:1234": 200, "127.9.9.9": 200, "[::1]:80": 200, "pilotfish.localhost": 200, "LOCALHOST.": 200,
		"mesh.internal:80": 200,
		"evil.example":     421, "127.0.0.1.evil.example": 421, "localhost.evil.example:80": 421, "10.0.0.1": 421, "0.0.0.0": 421, "[::]": 421,
	} {
		for _, path := range []string{"/", "/api/state"} {
			if got, body, _ := ask(t, url, request{method: "GET", path: path, host: host}); got != want {
				t.Errorf("host %s, %s: %d %s, want %d", host, path, got, body, want)
			}
		}
	}
}

func TestEveryAnswerIsGuarded(t *testing.T) {
	url, _ := site(t, newWorld(t).options())
	for path, want := range map[string]int{"/": 200, "/app.js": 200, "/app.css": 200, "/theme.js": 200, "/licenses.txt": 200, "/api/state": 200, "/nothing": 404, "/../page.go": 404, "/web/dist/app.js": 404} {
		status, body, h := ask(t, url, request{method: "GET", path: path})
		if status != want {
			t.Errorf("%s: %d, want %d", path, status, want)
		}
		policy := h.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: headers %v", path, h)
		}
		if strings.Contains(body, "<script>") || strings.Contains(body, "style=\"") {
			t.Errorf("%s has an inline script or style, which its policy forbids", path)
		}
	}
	_, _, h := ask(t, url, request{method: "GET", path: "/app.js"})
	if status, _, _ := ask(t, url, request{method: "GET", path: "/app.js", header: http.Header{"If-None-Match": {h.Get("Etag")}}}); status != 304 {
		t.Errorf("app.js again: %d, want 304", status)
	}
}

const sameOrigin = "same-origin"

func post(body string, header ...string) request {
	r := request{method: "POST", path: "/api/weights", body: body, header: http.Header{"Content-Type": {"application/json"}, "Sec-Fetch-Site": {sameOrigin}}}
	for i := 0; i+1 < len(header); i += 2 {
		r.header.Del(header[i])
		if header[i+1] != "" {
			r.header.Set(header[i], header[i+1])
		}
	}
	return r
}

const route = `"route":"default/myapp/spec.http[0].route"`

// ready waits until the page shows the routes.
func ready(t *testing.T, url string) {
	t.Helper()
	until(t, stream(t, url, ""), "routes", func(data string) bool { return strings.Contains(data, `"label":"v2"`) })
}

func TestWeightsAreRefused(t *testing.T) {
	move := `{` + route + `,"seen":[70,30],"weights":[60,40]}`
	for name, c := range map[string]struct {
		request request
		before  string // the file is changed to this without being read again
		want    int
		says    string
	}{
		"other site":       {request: post(move, "Sec-Fetch-Site", "cross-site"), want: 403},
		"other local port": {request: post(move, "Sec-Fetch-Site", "same-site"), want: 403},
		"old browser":      {request: post(move, "Sec-Fetch-Site", "", "Origin", "http://evil.example"), want: 403},
		"opaque origin":    {request: post(move, "Sec-Fetch-Site", "", "Origin", "null"), want: 403},
		"form":             {request: post(move, "Content-Type", "text/plain"), want: 415, says: "application/json"},
		"no JSON":          {request: post(`weights`), want: 400, says: "cannot be read"},
		"unknown field":    {request: post(`{"path":"/etc/passwd"}`), want: 400, says: "unknown field"},
		"unknown route":    {request: post(`{"route":"default/other/spec.http[0].route","seen":[70,30],"weights":[60,40]}`), want: 404},
		"seen otherwise":   {request: post(`{` + route + `,"seen":[80,20],"weights":[60,40]}`), want: 409, says: "[70 30]"},
		"wrong sum":        {request: post(`{` + route + `,"seen":[70,30],"weights":[70,40]}`), want: 422, says: "sum to 110"},
		"negative":         {request: post(`{` + route + `,"seen":[70,30],"weights":[-10,110]}`), want: 422, says: "between 0 and 100"},
		"no weights":       {request: post(`{` + route + `,"seen":[70,30]}`), want: 422, says: "0 weights for 2"},
		"bad destination":  {request: post(`{` + route + `,"seen":[70,30],"destination":2,"percent":5}`), want: 400},
		"too large":        {request: post(`{"route":"` + strings.Repeat("x", 1<<17) + `"}`), want: 400},
		"changed file":     {request: post(move), before: strings.Replace(meshYAML, "weight: 70", "weight: 71", 1), want: 409, says: `"line":11`},
		"anchor":           {request: post(move), before: strings.Replace(meshYAML, "weight: 70", "weight: &w 70", 1), want: 422, says: "anchor \\u0026w"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			url, _ := site(t, w.options())
			ready(t, url)
			before := w.text()
			if c.before != "" {
				before = c.before
				if err := writeFile(w.path, before); err != nil {
					t.Fatal(err)
				}
			}
			status, body, _ := ask(t, url, c.request)
			if status != c.want || !strings.Contains(body, c.says) {
				t.Errorf("%d %s, want %d with %q", status, body, c.want, c.says)
			}
			if w.text() != before {
				t.Error("a refused request changed the file")
			}
		})
	}
}

func TestWeightsAreWrittenInPlace(t *testing.T) {
	for name, c := range map[string]struct{ body, v1, v2 string }{
		"all weights":     {`{` + route + `,"seen":[70,30],"weights":[5,95]}`, "5", "95"},
		"one destination": {`{` + route + `,"seen":[70,30],"destination":1,"percent":50}`, "50", "50"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			url, _ := site(t, w.options())
			events := stream(t, url, "")
			until(t, events, "routes", nil)
			if status, body, _ := ask(t, url, post(c.body)); status != 200 {
				t.Fatalf("%d %s", status, body)
			}
			want := strings.NewReplacer("weight: 70", "weight: "+c.v1, "weight: 30", "weight: "+c.v2).Replace(meshYAML)
			if w.text() != want {
				t.Errorf("file:\n%s\nwant:\n%s", w.text(), want)
			}
			until(t, events, "routes", func(data string) bool { return strings.Contains(data, `"percents":[`+c.v1+`,`+c.v2+`]`) })
		})
	}
}

func TestAPageWithoutWriterIsReadOnly(t *testing.T) {
	o := newWorld(t).options()
	o.Weights = nil
	url, _ := site(t, o)
	e := until(t, stream(t, url, ""), "routes", nil)
	if !strings.Contains(e.data, `"readOnly":"This page is read-only."`) {
		t.Errorf("routes: %s", e.data)
	}
	if status, _, _ := ask(t, url, post(`{}`)); status != 403 {
		t.Errorf("status %d, want 403", status)
	}
}

func TestTheStreamTellsWhatIsNewOnly(t *testing.T) {
	w := newWorld(t)
	now := time.Now().Truncate(time.Second)
	for i := range 5 {
		w.load(now.Add(time.Duration(i-5)*time.Second), 30)
	}
	url, stop := site(t, w.options())
	events := stream(t, url, "")
	if e := <-events; e.name != "page" || !strings.Contains(e.data, `"title":"examples/canary"`) {
		t.Fatalf("first event %+v", e)
	}
	first := until(t, events, "traffic", func(data string) bool { return len(decode[traffic](t, data).Seconds) > 0 })
	v := decode[traffic](t, first.data)
	if !v.Reset || len(v.Seconds) != 5 || v.Seconds[0].Requests != 120 || v.Seconds[0].By["default/myapp-v1"].N+v.Seconds[0].By["default/myapp-v2"].N != 120 {
		t.Fatalf("history %s", first.data)
	}

	// A reader that comes back gets what it missed; one of another server's
	// life, or a nonsensical one, starts anew.
	w.load(now, 30)
	next := until(t, events, "traffic", nil)
	if v := decode[traffic](t, next.data); v.Reset || len(v.Seconds) != 1 {
		t.Errorf("the next second: %s", next.data)
	}
	for id, want := range map[string]traffic{first.id: {Reset: false, Seconds: v.Seconds[:1]}, "other.5": {Reset: true}, "x": {Reset: true}, first.id + "9": {Reset: true}} {
		e := until(t, stream(t, url, id), "traffic", nil)
		got := decode[traffic](t, e.data)
		if got.Reset != want.Reset || (!got.Reset && len(got.Seconds) != 1) || (got.Reset && len(got.Seconds) != 6) {
			t.Errorf("after event %q: %s", id, e.data)
		}
	}

	// Everything that comes after the first sight is a change of something.
	w.arrive(config.Key{Kind: "Service", Name: "x"}, now)
	for {
		e := until(t, events, "changes", nil)
		if strings.Contains(e.data, `"object":"Service x"`) {
			break
		}
	}
	stop()
	for e := range events {
		t.Errorf("an event without news, or after the end: %+v", e)
	}
}

func TestAPageBeforeTheFirstMesh(t *testing.T) {
	w := newWorld(t)
	url, _ := site(t, dashboard.Options{Meshes: meshes(func() *config.Mesh { return nil }), Problems: w})
	e := until(t, stream(t, url, ""), "routes", nil)
	if e.data != `{"routes":null}` {
		t.Errorf("routes: %s", e.data)
	}
	_, body, _ := ask(t, url, request{method: "GET", path: "/api/state"})
	state := decode[map[string]any](t, body)
	if page, _ := state["page"].(map[string]any); fmt.Sprint(page["sections"]) != "[problems routes]" || page["writable"] != false {
		t.Errorf("state: %s", body)
	}
}

type meshes func() *config.Mesh

func (m meshes) Mesh() *config.Mesh { return m() }

func TestRoutesAreDescribed(t *testing.T) {
	w := newWorld(t)
	w.write(strings.Replace(meshYAML, "  http:\n  - route:", `  http:
  - name: qa
    match: [{uri: {prefix: /api}, headers: {x-user: {exact: qa}}}, {method: {regex: "P.*"}}]
    route:
    - destination: {host: myapp.default.svc.cluster.local, subset: v2}
      weight: 1
    - destination: {host: other}
      weight: 2
  - route:
    - destination: {host: myapp, subset: v1}
  - route:`, 1))
	w.load(time.Now(), 50)
	url, _ := site(t, w.options())
	e := until(t, stream(t, url, ""), "routes", func(data string) bool { return strings.Contains(data, "default/myapp-v2") })
	type destination struct {
		Label           string
		Weight, Percent int
		Series          []string
	}
	got := decode[struct {
		Routes []struct {
			ID, Rule     string
			Match        []string
			Line         int
			Destinations []destination
		}
	}](t, e.data)
	var b bytes.Buffer
	for _, r := range got.Routes {
		fmt.Fprintf(&b, "%s rule=%s match=%q line=%d\n", r.ID, r.Rule, r.Match, r.Line)
		for _, d := range r.Destinations {
			fmt.Fprintf(&b, "  %s %d %d%% %v\n", d.Label, d.Weight, d.Percent, d.Series)
		}
	}
	want := `default/myapp/spec.http[0].route rule=qa match=["path /api…, x-user = qa" "method ~ P.*"] line=11
  v2 1 33% [default/myapp-v2]
  other 2 67% []
default/myapp/spec.http[2].route rule= match=[] line=18
  v1 70 70% [default/myapp-v1]
  v2 30 30% [default/myapp-v2]
`
	if b.String() != want {
		t.Errorf("routes:\n%s\nwant:\n%s", b.String(), want)
	}
}

func writeFile(path, text string) error { return os.WriteFile(path, []byte(text), 0o644) }
