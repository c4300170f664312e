package report

import (
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Calls is who may call whom: each workload against each port of a service.
type Calls struct {
	Services []string
	Clients  []Client
	// Left are the pairs that are not shown, since there are too many.
	Left int
}

// Client is one row.
type Client struct {
	Name string
	To   []Call // in the order of Services
}

// Call is what happens to a client's requests to a service.
type Call struct {
	Service string
	// Kind is mtls, plaintext, some (rules let in some requests only), denied or
	// unreachable.
	Kind string
	Text string
	Why  string // an example
}

// maxPairs bounds the pairs that are asked about.
const maxPairs = 600

// CallsOf asks for each client and service whether requests get there, by which
// connection, and whether policies let them in.
func CallsOf(w *simulate.World) *Calls {
	out := &Calls{}
	targets := w.Targets("", "")
	var shown []simulate.Target
	for _, t := range targets {
		if len(w.Mesh.Services.In(t.Service.Namespace)) > 0 && len(shown) < 40 {
			shown = append(shown, t)
			out.Services = append(out.Services, t.String())
		}
	}
	clients := w.Clients("", "")
	for i, from := range clients {
		if (i+1)*len(shown) > maxPairs {
			out.Left = (len(clients) - i) * len(targets)
			break
		}
		row := Client{Name: from}
		for _, to := range shown {
			row.To = append(row.To, callOf(w, from, to))
		}
		out.Clients = append(out.Clients, row)
	}
	out.Left += len(out.Clients) * (len(targets) - len(shown))
	return out
}

// maxRequests bounds the requests that are tried for one pair.
const maxRequests = 40

func callOf(w *simulate.World, from string, to simulate.Target) Call {
	c := Call{Service: to.String()}
	in, out, plain := 0, 0, false
	for i, q := range w.Explore(from, to) {
		if i == maxRequests {
			break
		}
		a, err := w.Ask(q)
		if err != nil {
			c.Why = err.Error()
			continue
		}
		for j := range a.Results {
			r := &a.Results[j]
			switch {
			case r.Delivered:
				in++
				plain = plain || r.Security != simulate.MTLS
			case r.Status == 403 || r.Status == 401 || strings.HasPrefix(r.Reason, "RBAC: "):
				out++
				c.Why = "pilotfish ask " + q.String() + ": " + resultText(r)
			case c.Why == "":
				c.Why = "pilotfish ask " + q.String() + ": " + resultText(r)
			}
		}
	}
	switch {
	case in == 0 && out > 0:
		c.Kind, c.Text = "denied", "denied"
	case in == 0:
		c.Kind, c.Text = "unreachable", "no"
	case out > 0:
		c.Kind, c.Text = "some", "some"
	case plain:
		c.Kind, c.Text, c.Why = "plaintext", "plain", ""
	default:
		c.Kind, c.Text, c.Why = "mtls", "mTLS", ""
	}
	return c
}
