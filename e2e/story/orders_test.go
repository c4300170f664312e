package story

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/meshtest"
)

// TestOrders are orders that are told: of changes that no order makes safe, that
// need none, and that proxies are not told of.
func TestOrders(t *testing.T) {
	both := func(c change, more change) change {
		out := change{"Service/myapp": always(service("myapp", "app: myapp")), "Deployment/myapp-v1": v1}
		for _, m := range []change{c, more} {
			for k, texts := range m {
				out[k] = texts
			}
		}
		return out
	}
	timeout := change{"VirtualService/myapp": {
		virtual("{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 5s}]}"),
		virtual("{hosts: [myapp], http: [{route: [{destination: {host: myapp}}], timeout: 3s}]}"),
	}}
	of := func(image string) string {
		return deploymentOf("myapp-v1", "app: myapp, version: v1", "image: "+image)
	}
	secret := func(value string) string {
		return "apiVersion: v1\nkind: Secret\nmetadata: {name: more}\nstringData: {a: " + value + "}\n"
	}
	many := change{}
	for i := range 8 {
		many[fmt.Sprintf("Service/more-%d", i)] = [2]string{"", service(fmt.Sprintf("more-%d", i), "app: myapp")}
	}
	many["VirtualService/myapp"] = [2]string{"", virtual("{hosts: [myapp], http: [{route: [{destination: {host: more-3}}]}]}")}
	for name, c := range map[string]struct {
		change change
		want   string
	}{
		"target port and pods": {
			change{"Service/myapp": {servicePort("myapp", "app: myapp", "8080"), servicePort("myapp", "app: myapp", "9090")}, "Deployment/myapp-v1": {of("c:1"), of("c:2")}},
			"none; stuck at Service/myapp: a request goes to port 9090 of Deployment default/myapp-v1, whose pods then need not listen there; stuck at Deployment/myapp-v1: a request goes to port 8080 of Deployment default/myapp-v1, whose pods then need not listen there",
		},
		"target port by name": {
			change{"Service/myapp": always(servicePort("myapp", "app: myapp", "web")), "Deployment/myapp-v1": {
				deploymentOf("myapp-v1", "app: myapp, version: v1", "image: c, ports: [{name: web, containerPort: 8080}]"),
				deploymentOf("myapp-v1", "app: myapp, version: v1", "image: c, ports: [{name: web, containerPort: 9090}]"),
			}},
			"any: Deployment/myapp-v1 (wait)",
		},
		"target port alone": {
			both(timeout, change{"Service/myapp": {servicePort("myapp", "app: myapp", "8080"), servicePort("myapp", "app: myapp", "9090")}}),
			"any: Service/myapp VirtualService/myapp",
		},
		"label of a subset's pods": {
			both(change{
				"Deployment/myapp-v1":   {v1[0], strings.ReplaceAll(v1[0], "version: v1", "version: v2")},
				"DestinationRule/myapp": {rule("{host: myapp, subsets: [{name: s, labels: {version: v1}}]}"), rule("{host: myapp, subsets: [{name: s, labels: {version: v2}}]}")},
				"VirtualService/myapp":  always(toMyapp(", subset: s")),
			}, nil),
			"none; stuck at Deployment/myapp-v1: a request that works before and after fails: 100 % 503: cluster outbound|80|s|myapp.default.svc.cluster.local has no endpoint; stuck at DestinationRule/myapp: a request that works before and after fails: 100 % 503: cluster outbound|80|s|myapp.default.svc.cluster.local has no endpoint",
		},
		"image":             {both(timeout, change{"Deployment/myapp-v1": {of("c:1"), of("c:2")}}), "any: VirtualService/myapp; at any time Deployment/myapp-v1"},
		"labels":            {both(timeout, change{"Deployment/myapp-v1": {v1[0], strings.ReplaceAll(v1[0], "version: v1", "version: v2")}}), "any: Deployment/myapp-v1 (wait) VirtualService/myapp"},
		"Secret":            {both(timeout, change{"Secret/more": {secret("b"), secret("c")}}), "any: Secret/more VirtualService/myapp"},
		"moved in its file": {both(timeout, change{"Service/more": {service("more", "a: b"), "# a comment\n" + service("more", "a: b")}}), "any: VirtualService/myapp"},
		"WorkloadEntry": {
			both(timeout, change{"WorkloadEntry/more": {"", object("networking", "WorkloadEntry", "more", "{address: 10.9.9.9, labels: {app: myapp}}")}}),
			"any: VirtualService/myapp WorkloadEntry/more",
		},
		"namespace": {
			both(timeout, change{"Namespace/new": {"", "apiVersion: v1\nkind: Namespace\nmetadata: {name: new}\n"}, "Service/more": {"", strings.Replace(service("more", "a: b"), "name: more", "name: more, namespace: new", 1)}}),
			"Namespace/new Service/more (after Namespace/new: Namespace new does not exist yet) VirtualService/myapp",
		},
		"404 in between": {
			both(change{
				"Gateway/gw":           always(object("networking", "Gateway", "gw", "{selector: {istio: ingressgateway}, servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]}")),
				"VirtualService/myapp": {virtual("{hosts: [shop.test], gateways: [gw], http: [{route: [{destination: {host: myapp}}]}]}"), ""},
				"VirtualService/next":  {"", object("networking", "VirtualService", "next", "{hosts: [shop.test], gateways: [gw], http: [{route: [{destination: {host: myapp}}]}]}")},
			}, nil),
			"VirtualService/next VirtualService/myapp (after VirtualService/next: a request that works before and after fails: 100 % 404: no route of virtual host blackhole:80 takes the request)",
		},
		"more than are tried": {
			both(many, nil),
			"Service/more-0 Service/more-1 Service/more-2 Service/more-3 Service/more-4 Service/more-5 Service/more-6 Service/more-7 VirtualService/myapp (after Service/more-3: a request that works before and after fails: 100 % 503: cluster outbound|80||more-3.default.svc.cluster.local does not exist)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := told(c.change.order(t)); got != c.want {
				t.Errorf("%s\nwant %s", got, c.want)
			}
		})
	}
}

// told is an order in one line.
func told(o *meshtest.Order) string {
	var out []string
	for _, s := range o.Steps {
		text := s.Object.Kind + "/" + s.Object.Name
		if s.Wait {
			text += " (wait)"
		}
		for _, n := range s.After {
			text += fmt.Sprintf(" (after %s/%s: %s)", n.Object.Kind, n.Object.Name, n.Why)
		}
		out = append(out, text)
	}
	text := strings.Join(out, " ")
	if o.Any {
		slices.Sort(out)
		text = "any: " + strings.Join(out, " ")
	}
	if text == "" {
		text = "none"
	}
	for _, s := range o.Stuck {
		text += fmt.Sprintf("; stuck at %s/%s: %s", s.Object.Kind, s.Object.Name, s.Why)
	}
	for _, k := range o.AnyTime {
		text += fmt.Sprintf("; at any time %s/%s", k.Kind, k.Name)
	}
	return text
}
