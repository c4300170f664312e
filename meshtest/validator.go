package meshtest

import (
	"fmt"
	"reflect"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// validatorCase is one test of istio-config-validator.
type validatorCase struct {
	Description string `yaml:"description"`
	WantMatch   bool   `yaml:"wantMatch"`
	Request     struct {
		Authority []string          `yaml:"authority"`
		Method    []string          `yaml:"method"`
		URI       []string          `yaml:"uri"`
		Headers   map[string]string `yaml:"headers"`
	} `yaml:"request"`
	Route []struct {
		Destination struct {
			Host   string `yaml:"host"`
			Subset string `yaml:"subset"`
			Port   struct {
				Number uint32 `yaml:"number"`
			} `yaml:"port"`
		} `yaml:"destination"`
		Weight float64 `yaml:"weight"`
	} `yaml:"route"`
	Redirect *struct {
		URI       string `yaml:"uri"`
		Authority string `yaml:"authority"`
	} `yaml:"redirect"`
	Rewrite *struct {
		URI       string `yaml:"uri"`
		Authority string `yaml:"authority"`
	} `yaml:"rewrite"`
	Fault *struct {
		Abort *struct {
			Status     int             `yaml:"httpStatus"`
			Percentage *validatorShare `yaml:"percentage"`
		} `yaml:"abort"`
		Delay *struct {
			Fixed      string          `yaml:"fixedDelay"`
			Percentage *validatorShare `yaml:"percentage"`
		} `yaml:"delay"`
	} `yaml:"fault"`
	Headers *struct {
		Request  validatorHeaders `yaml:"request"`
		Response validatorHeaders `yaml:"response"`
	} `yaml:"headers"`
	// Delegate is the VirtualService whose rules decide.
	Delegate *struct {
		Name      string `yaml:"name"`
		Namespace string `yaml:"namespace"`
	} `yaml:"delegate"`
}

type validatorShare struct {
	Value float64 `yaml:"value"`
}

// percent is that of the requests; without one it is all of them.
func (s *validatorShare) percent() *float64 {
	all := 100.0
	if s != nil {
		all = s.Value
	}
	return &all
}

type validatorHeaders struct {
	Set    map[string]string `yaml:"set"`
	Add    map[string]string `yaml:"add"`
	Remove []string          `yaml:"remove"`
}

// expected are values by name; nil for none.
func (h *validatorHeaders) expected() map[string]*string {
	out := map[string]*string{}
	for _, values := range []map[string]string{h.Add, h.Set} {
		for name, v := range values {
			out[name] = &v
		}
	}
	for _, name := range h.Remove {
		out[name] = nil
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// validatorCases reads the tests of istio-config-validator: each stands for
// every combination of its authorities, methods and URIs.
func (p *parser) validatorCases(list *yaml.Node) {
	if list.Kind != yaml.SequenceNode {
		p.faultAt(list, "testCases", "is %s: want a list of tests", nodeWords(list))
		return
	}
	for _, n := range list.Content {
		p.unknownKeys(n, "", "description", "wantMatch", "request", "route", "redirect", "rewrite", "fault", "headers", "delegate")
		var v validatorCase
		before := len(p.problems)
		shape{parser: p}.check("", n, reflect.TypeFor[validatorCase]()) // whose other fields are for their tool
		if len(p.problems) > before {
			continue
		}
		if err := n.Decode(&v); err != nil {
			p.faultAt(n, "", "%s", strings.TrimPrefix(err.Error(), "yaml: "))
			continue
		}
		methods, uris := v.Request.Method, v.Request.URI
		if len(methods) == 0 {
			methods = []string{"GET"}
		}
		if len(uris) == 0 {
			uris = []string{"/"}
		}
		if len(v.Request.Authority) == 0 {
			p.fault(n.Line, "InvalidTest", "test %q: request.authority is missing", v.Description)
			continue
		}
		for _, a := range v.Request.Authority {
			for _, m := range methods {
				for _, u := range uris {
					c := &Case{
						Name: fmt.Sprintf("%s/%s %s%s", v.Description, m, a, u), Line: n.Line, file: p.file.Name,
						From:    From{Gateway: anyGateway},
						Request: Request{URL: "http://" + a + u, Method: m, Headers: v.Request.Headers},
					}
					c.Expect = v.expect()
					p.file.Cases = append(p.file.Cases, c)
				}
			}
		}
	}
}

// anyGateway stands for wherever the host is served: a gateway, or the mesh.
const anyGateway = "*"

// expect is what the tool's test demands, by clusters: the destinations need
// not exist. The tool tests each part by itself: if it wants no match, each must
// differ.
func (v *validatorCase) expect() Expect {
	var all Expect
	var each []*Expect
	for _, part := range []func(*Expect){v.route, v.redirect, v.rewrite, v.headers, v.delegate, v.fault} {
		var e Expect
		if part(&e); !e.empty() {
			part(&all)
			each = append(each, &e)
		}
	}
	switch {
	case len(each) == 0:
		return Expect{matched: &v.WantMatch}
	case !v.WantMatch:
		return Expect{Not: each[0], alsoNot: each[1:]}
	}
	if f := all.Fault; f != nil && f.AbortPercent != nil && *f.AbortPercent >= 100 {
		// The proxy answers every request on purpose: nothing is sent on.
		all.To, all.Headers, all.response, all.Path, all.Host = nil, nil, nil, nil, nil
	}
	return all
}

func (v *validatorCase) route(e *Expect) {
	for _, r := range v.Route {
		share := r.Weight
		if share == 0 {
			share = 100
		}
		port := r.Destination.Port.Number
		name := r.Destination.Host + "|" + r.Destination.Subset
		if port != 0 {
			name = translate.OutboundCluster(port, r.Destination.Subset, r.Destination.Host)
		}
		if e.To == nil {
			e.To = Shares{}
		}
		e.To[name] += share
	}
}

func (v *validatorCase) redirect(e *Expect) {
	if r := v.Redirect; r != nil {
		to := r.URI
		if r.Authority != "" {
			to = "http://" + r.Authority + r.URI
		}
		e.Redirect = &to
	}
}

func (v *validatorCase) rewrite(e *Expect) {
	r := v.Rewrite
	if r == nil {
		return
	}
	if r.Authority != "" {
		e.Host = &r.Authority
	}
	if r.URI != "" {
		e.Path = &r.URI
	}
}

func (v *validatorCase) headers(e *Expect) {
	if h := v.Headers; h != nil {
		e.Headers, e.response = h.Request.expected(), h.Response.expected()
	}
}

func (v *validatorCase) delegate(e *Expect) {
	if d := v.Delegate; d != nil {
		e.delegate = &d.Name
		if d.Namespace != "" {
			name := d.Namespace + "/" + d.Name
			e.delegate = &name
		}
	}
}

func (v *validatorCase) fault(e *Expect) {
	f := v.Fault
	if f == nil {
		return
	}
	e.Fault = &FaultExpect{}
	if d := f.Delay; d != nil {
		e.Fault.Delay, e.Fault.DelayPercent = &d.Fixed, d.Percentage.percent()
	}
	if a := f.Abort; a != nil {
		e.Fault.Abort, e.Fault.AbortPercent = &a.Status, a.Percentage.percent()
	}
}
