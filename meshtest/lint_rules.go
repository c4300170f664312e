package meshtest

import (
	"fmt"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// portsWithoutProtocol are ports of services that VirtualServices route
// requests to and whose protocol nothing says: it is then guessed from the
// first bytes, and a server that speaks first waits for ever.
func portsWithoutProtocol(m *config.Mesh) []config.Problem {
	routed := map[string]bool{}
	for vs := range m.VirtualServices.All() {
		if len(vs.Spec.GetHttp()) == 0 {
			continue
		}
		for _, h := range vs.Spec.GetHosts() {
			_, s := m.Lookup(vs.Namespace, h)
			if s != nil {
				routed[s.Hostname] = true
			}
		}
	}
	var out []config.Problem
	for s := range m.Services.All() {
		if !routed[s.Hostname] || !s.Kubernetes || slices.ContainsFunc(s.Ports, func(p config.ServicePort) bool { return p.Protocol.IsHTTP() }) {
			continue
		}
		for i, p := range s.Ports {
			if p.Protocol == config.ProtocolUnset {
				out = append(out, config.At(&s.Meta, fmt.Sprintf("spec.ports[%d]", i), config.Info, "PortWithoutProtocol",
					"port %d has no protocol, so that it is guessed from each connection's first bytes: name it %s or set appProtocol",
					p.Number, "http-"+orPort(p.Name)))
			}
		}
	}
	return out
}

func orPort(name string) string {
	if name == "" {
		return "main"
	}
	return name
}

// serversNotVerified are TLS clients that take any server's certificate.
func serversNotVerified(m *config.Mesh) []config.Problem {
	var out []config.Problem
	for dr := range m.DestinationRules.All() {
		check := func(field string, p *networking.TrafficPolicy) {
			tls := func(field string, t *networking.ClientTLSSettings) {
				if t.GetInsecureSkipVerify().GetValue() {
					out = append(out, config.At(&dr.Meta, field+".tls.insecureSkipVerify", config.Warning, "ServerNotVerified",
						"the server's certificate is not verified: whoever answers for %s is believed. Give caCertificates and subjectAltNames", dr.Spec.GetHost()))
				}
			}
			tls(field, p.GetTls())
			for i, s := range p.GetPortLevelSettings() {
				tls(fmt.Sprintf("%s.portLevelSettings[%d]", field, i), s.GetTls())
			}
		}
		check("spec.trafficPolicy", dr.Spec.GetTrafficPolicy())
		for i, s := range dr.Spec.GetSubsets() {
			check(fmt.Sprintf("spec.subsets[%d].trafficPolicy", i), s.GetTrafficPolicy())
		}
	}
	return out
}

// retriesOfWrites are rules for requests that change something and that are
// repeated after the server may already have done so.
func retriesOfWrites(m *config.Mesh) []config.Problem {
	var out []config.Problem
	for vs := range m.VirtualServices.All() {
		for i, r := range vs.Spec.GetHttp() {
			on := r.GetRetries().GetRetryOn()
			if r.GetRetries().GetAttempts() <= 0 || !repeats(on) {
				continue
			}
			for j, match := range r.GetMatch() {
				method := match.GetMethod().GetExact()
				if method != "POST" && method != "PATCH" {
					continue
				}
				out = append(out, config.At(&vs.Meta, fmt.Sprintf("spec.http[%d].retries", i), config.Warning, "RetriesRepeatWrites",
					"%s requests (match[%d]) are repeated on %q, also after the server has done what they ask: leave out 5xx, gateway-error and reset", method, j, on))
			}
		}
	}
	return out
}

// repeats reports whether a retry may follow an answer of the server.
func repeats(on string) bool {
	for c := range strings.SplitSeq(on, ",") {
		switch strings.TrimSpace(c) {
		case "5xx", "gateway-error", "reset", "retriable-4xx", "500", "502", "504":
			return true
		}
	}
	return false
}

// shadowWitness is a request that the shadowed match of a problem would take,
// and another rule takes.
func shadowWitness(w *simulate.World, p *config.Problem) string {
	vs, ok := w.Mesh.VirtualServices.Get(p.Object.Namespace, p.Object.Name)
	if !ok {
		return ""
	}
	rule, match := -1, 0
	if n, _ := fmt.Sscanf(p.Field, "spec.http[%d].match[%d]", &rule, &match); n == 0 || rule >= len(vs.Spec.GetHttp()) {
		return ""
	}
	r := vs.Spec.GetHttp()[rule]
	h := &simulate.Query{Method: "GET", URL: "/"}
	if match < len(r.GetMatch()) {
		m := r.GetMatch()[match]
		if path := simulate.ExampleOf(m.GetUri()); path != "" {
			h.URL = path
		}
		if m.GetMethod() != nil {
			h.Method = simulate.ExampleOf(m.GetMethod())
		}
		for _, name := range sortedKeys(m.GetHeaders()) {
			value := simulate.ExampleOf(m.GetHeaders()[name])
			if value == "" {
				value = "x"
			}
			h.Header = append(h.Header, simulate.Field{Name: name, Value: value})
		}
	}
	host := "www.example.com"
	if len(vs.Spec.GetHosts()) > 0 {
		host = strings.Replace(vs.Spec.GetHosts()[0], "*", "www", 1)
	}
	h.URL = "http://" + host + h.URL
	from, ok := w.Serves(h)
	if !ok {
		return ""
	}
	h.From = from
	return h.String()
}
