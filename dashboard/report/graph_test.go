package report_test

import (
	"bytes"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/dashboard/browsertest"
	"github.com/pilotfish-mesh/pilotfish/dashboard/report"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

var update = flag.Bool("update", false, "write the golden files anew")

// drawing is the SVG of a page.
func drawing(t *testing.T, calls *report.Calls) string {
	t.Helper()
	var b bytes.Buffer
	if err := (&report.Page{Title: "mesh", Calls: calls}).Write(&b); err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(b.String(), `<svg class="graph"`)
	body, _, closed := strings.Cut(rest, "</svg>")
	if !ok || !closed {
		t.Fatal("the page has no drawing")
	}
	return `<svg class="graph"` + body + "</svg>\n"
}

// The drawing of the bookstore: every arrow, and what it says.
func TestDrawing(t *testing.T) {
	golden, err := filepath.Abs("testdata/bookstore.svg")
	if err != nil {
		t.Fatal(err)
	}
	w := simulate.NewWorld(load(t, "", ""))
	got := drawing(t, report.CallsOf(w))
	if again := drawing(t, report.CallsOf(w)); again != got {
		t.Error("the same mesh is drawn in two ways")
	}
	for d := xml.NewDecoder(strings.NewReader(got)); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("no XML: %v", err)
		}
	}
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (-update writes it anew):\n%s", golden, got)
	}
}

// made is a mesh whose workloads all call all services of a namespace.
func made(namespaces, workloads int) *report.Calls {
	c := &report.Calls{}
	for n := range namespaces {
		for s := range workloads {
			c.Services = append(c.Services, fmt.Sprintf("s%d.ns%02d:80", s, n))
		}
	}
	for n := range namespaces {
		for i := range workloads {
			row := report.Client{Name: fmt.Sprintf("ns%02d/w%d", n, i)}
			for _, s := range c.Services {
				call := report.Call{Service: s, Kind: "unreachable", Text: "no"}
				if strings.Contains(s, fmt.Sprintf("ns%02d", n)) {
					call = report.Call{Service: s, Kind: "mtls", Text: "mTLS", Mode: simulate.MTLS}
				}
				row.To = append(row.To, call)
			}
			c.Clients = append(c.Clients, row)
		}
	}
	return c
}

// A large mesh is drawn by namespace, a larger one in part, and says so.
func TestDrawingIsBounded(t *testing.T) {
	for _, c := range []struct {
		namespaces, workloads int
		groups, nodes, edges  int
		note                  string
	}{
		{3, 3, 6, 18, 27, ""},
		{3, 12, 2, 6, 3, "Drawn by namespace: 72 callers and services with 432 connections are too many to draw one by one."},
		{20, 2, 2, 28, 14, "6 namespaces with the fewest connections are not drawn."},
	} {
		g := made(c.namespaces, c.workloads).Graph()
		nodes := 0
		for _, group := range g.Groups {
			nodes += len(group.Nodes)
		}
		if len(g.Groups) != c.groups || nodes != c.nodes || len(g.Edges) != c.edges {
			t.Errorf("%d namespaces of %d: %d groups, %d nodes, %d edges", c.namespaces, c.workloads, len(g.Groups), nodes, len(g.Edges))
		}
		if notes := strings.Join(g.Notes, " "); !strings.Contains(notes, c.note) || c.note == "" && notes != "" {
			t.Errorf("%d namespaces of %d: notes %q", c.namespaces, c.workloads, notes)
		}
	}
}

// everyKind is a mesh with every kind of edge.
func everyKind() *report.Calls {
	c := made(1, 5)
	for i := range c.Clients {
		for j := range c.Clients[i].To {
			c.Clients[i].To[j] = []report.Call{
				{Kind: "mtls", Text: "mTLS", Mode: simulate.MTLS}, {Kind: "tls", Text: "TLS", Mode: simulate.TLS},
				{Kind: "plaintext", Text: "plain", Mode: simulate.Plaintext}, {Kind: "some", Text: "some", Mode: simulate.Plaintext}, {Kind: "denied", Text: "denied"},
			}[(i+j)%5]
			c.Clients[i].To[j].Service = c.Services[j]
		}
	}
	return c
}

// What differs between the pairs of two namespaces is told of both.
func TestDrawingSumsUp(t *testing.T) {
	c := made(2, 20)
	c.Clients[0].To[0] = report.Call{Service: c.Services[0], Kind: "plaintext", Mode: simulate.Plaintext, Reasons: []string{"VirtualService ns00/<v> (a.yaml:3)"}}
	c.Clients[1].To[0] = report.Call{Service: c.Services[0], Kind: "denied", Why: "pilotfish ask it: 403", Reasons: []string{"AuthorizationPolicy ns00/p (a.yaml:9)"}}
	for j := range 40 {
		for i := 20; i < 40; i++ {
			c.Clients[i].To[j] = report.Call{Service: c.Services[j], Kind: "denied"}
		}
	}
	g := c.Graph()
	var got []string
	for _, e := range g.Edges {
		got = append(got, e.From+" "+e.To+" "+e.Mode+" "+e.Authz)
	}
	want := "Workloads of/ns00 Services of/ns00 plaintext depends, Workloads of/ns01 Services of/ns00 denied denied, Workloads of/ns01 Services of/ns01 denied denied"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
	const title = "ns00 → ns00, 400 pairs: policies let in some requests, by plaintext\nVirtualService ns00/<v> (a.yaml:3)\nAuthorizationPolicy ns00/p (a.yaml:9)\nfor example pilotfish ask it: 403"
	if g.Edges[0].Title != title {
		t.Errorf("title %q", g.Edges[0].Title)
	}
	if svg := drawing(t, c); strings.Contains(svg, "<v>") || !strings.Contains(svg, "&lt;v&gt;") {
		t.Error("a name became markup")
	}
}

// What a gateway itself refuses depends, even if the server would take it.
func TestGatewayThatRefuses(t *testing.T) {
	const rule = "apiVersion: networking.istio.io/v1\nkind: DestinationRule"
	policy := func(action string) string {
		return "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: edge, namespace: istio-system}\nspec:\n" +
			"  selector: {matchLabels: {istio: ingressgateway}}\n  " + action + "\n---\n" + rule
	}
	row := func(spec string) (front, payments report.Call) {
		c := report.CallsOf(simulate.NewWorld(load(t, rule, policy(spec))))
		if len(c.Clients) == 0 || !c.Clients[0].Gateway {
			t.Fatalf("no gateway: %+v", c.Clients)
		}
		for _, call := range c.Clients[0].To {
			switch call.Service {
			case "front.shop:80":
				front = call
			case "payments.pci:80":
				payments = call
			}
		}
		return front, payments
	}
	front, payments := row("action: DENY\n  rules: [{to: [{operation: {paths: [/admin]}}]}]")
	if front.Kind != "some" || front.Mode != simulate.MTLS || !strings.Contains(front.Why, "/admin: 403: RBAC: ") {
		t.Errorf("the front: %+v", front)
	}
	if payments.Kind != "unreachable" || payments.Why != "no route of the gateway leads there" {
		t.Errorf("payments: %+v", payments)
	}
	front, _ = row("action: ALLOW") // no rules: nothing is let in
	if front.Kind != "unreachable" || !strings.Contains(front.Why, ": 403: RBAC: ") {
		t.Errorf("the front, with a gateway that lets nothing in: %+v", front)
	}
}

// overlaps names two nodes of a drawing of which one lies on the other, a text
// that is wider than its box, or what sticks out of the drawing.
const overlaps = `(() => {
  const svg = document.querySelector('svg.graph'), all = svg.getBoundingClientRect();
  const nodes = [...svg.querySelectorAll('.node')];
  const boxes = nodes.map(n => n.querySelector('rect').getBoundingClientRect());
  for (const [i, a] of boxes.entries()) {
    const text = nodes[i].querySelector('text').getBoundingClientRect();
    if (text.right > a.right || text.left < a.left) return nodes[i].textContent + ' is wider than its box';
    if (a.right > all.right || a.bottom > all.bottom || a.left < all.left || a.top < all.top) return nodes[i].textContent + ' is outside';
    for (const [j, b] of boxes.entries())
      if (j > i && a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom) return nodes[i].textContent + ' lies on ' + nodes[j].textContent;
  }
  return '';
})()`

// drawn checks what the browser makes of the drawing of the bookstore.
func drawn(t *testing.T, name string, tab *browsertest.Tab) {
	t.Helper()
	if bad := browsertest.Value[string](tab, overlaps); bad != "" {
		t.Errorf("%s: %s", name, bad)
	}
	const box = `document.querySelector('svg.graph').parentElement`
	if scrolls := browsertest.Value[bool](tab, box+".scrollWidth > "+box+".clientWidth"); scrolls != strings.Contains(name, "phone") {
		t.Errorf("%s: the drawing scrolls: %v", name, scrolls)
	}
	// Edges are told apart without colour, and by colour.
	look := func(from, to string) string {
		return browsertest.Value[string](tab, fmt.Sprintf(`(() => {
			const e = [...document.querySelectorAll('svg.graph .edge')].find(e => e.dataset.from === %q && e.dataset.to === %q);
			if (!e) return 'none';
			const l = getComputedStyle(e.querySelector('.line')), h = e.querySelector('.head');
			if (e.querySelector('.line').getTotalLength() < 50 || h.getBoundingClientRect().height < 5) return 'not shown';
			return [e.className.baseVal, l.strokeDasharray, l.stroke, getComputedStyle(h).fill === l.stroke ? 'full' : getComputedStyle(h).fill === 'none' ? 'bar' : 'hollow'].join('|');
		})()`, from, to))
	}
	looks := map[string]bool{}
	for _, c := range []struct{ from, to, class, dash, head string }{
		{"Gateways in istio-system/istio-ingressgateway", "shop/front:80", "edge mtls allowed", "none", "full"},
		{"shop/checkout", "pci/payments:80", "edge mtls depends", "none", "hollow"},
		{"shop/front", "pci/payments:80", "edge denied denied", "2px, 4px", "bar"},
		{"shop/front", "shop/reviews:80", "edge mtls allowed", "none", "full"},
		{"Gateways in istio-system/istio-ingressgateway", "pci/payments:80", "", "", ""},
	} {
		got := look(c.from, c.to)
		parts := strings.Split(got, "|")
		if c.class == "" {
			if got != "none" {
				t.Errorf("%s: %s to %s: %s", name, c.from, c.to, got)
			}
			continue
		}
		if len(parts) != 4 || parts[0] != c.class || parts[1] != c.dash || parts[3] != c.head {
			t.Errorf("%s: %s to %s: %s", name, c.from, c.to, got)
			continue
		}
		looks[parts[2]] = true
	}
	if len(looks) != 2 {
		t.Errorf("%s: edges have the colours %v", name, looks)
	}
}
