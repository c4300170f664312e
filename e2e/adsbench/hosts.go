package main

import (
	"context"
	"fmt"
	"os"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// How the hosts of gateways are written down.
const (
	layoutOne  = "one"  // one Gateway, a VirtualService for each host
	layoutEach = "each" // a Gateway and a VirtualService for each host
	layoutTLS  = "tls"  // the same over HTTPS: a filter chain and a route table each
)

var gateways = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "gateways"}

// hosts are those of gateways, which lead to the mesh's services by turns.
type hosts struct {
	n      int
	layout string
	mesh   *mesh
}

// seed creates them, if there are any.
func (h *hosts) seed(ctx context.Context) error {
	if h.n == 0 {
		return nil
	}
	fmt.Fprintf(os.Stderr, "seeding %d hosts\n", h.n)
	switch h.layout {
	case layoutOne:
		if err := h.create(ctx, gateways, gatewayObject("all", "*", false)); err != nil {
			return err
		}
	case layoutEach, layoutTLS:
	default:
		return fmt.Errorf("-host-layout %q: want %s, %s or %s", h.layout, layoutOne, layoutEach, layoutTLS)
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range h.n {
		g.Go(func() error { return h.add(ctx, fmt.Sprintf("host-%d", i), "seeded", i) })
	}
	return g.Wait()
}

// one is the change that adds one host.
func (h *hosts) one(ctx context.Context, round int) (string, func() error, error) {
	name := h.late(round)
	mark := name + "-mark-" // only its route has that
	return mark, func() error { return h.add(ctx, name, mark, round) }, nil
}

func (h *hosts) late(round int) string { return fmt.Sprintf("late-%s-%d", h.mesh.run, round) }

// add creates a host, whose route is named.
func (h *hosts) add(ctx context.Context, name, route string, i int) error {
	host, gateway := name+".example.com", "all"
	if h.layout != layoutOne {
		gateway = name
		if err := h.create(ctx, gateways, gatewayObject(name, host, h.layout == layoutTLS)); err != nil {
			return err
		}
	}
	s := i % h.mesh.shape.services
	return h.create(ctx, virtualServices, object("VirtualService", name, map[string]any{
		"hosts": []any{host}, "gateways": []any{gateway},
		"http": []any{map[string]any{"name": route, "route": []any{map[string]any{"destination": map[string]any{
			"host": serviceName(s) + "." + h.mesh.shape.namespace(s) + ".svc.cluster.local", "port": map[string]any{"number": int64(80)},
		}}}}},
	}))
}

// restore removes the hosts that changes have added.
func (h *hosts) restore(ctx context.Context, rounds int) error {
	for round := range rounds {
		name := h.late(round)
		for _, kind := range []schema.GroupVersionResource{virtualServices, gateways} {
			err := h.mesh.dynamic.Resource(kind).Namespace("ns-0").Delete(ctx, name, metav1.DeleteOptions{})
			if err := ignoreNotFound(err); err != nil {
				return err
			}
		}
	}
	return nil
}

func (h *hosts) create(ctx context.Context, kind schema.GroupVersionResource, o *unstructured.Unstructured) error {
	_, err := h.mesh.dynamic.Resource(kind).Namespace("ns-0").Create(ctx, o, metav1.CreateOptions{})
	return err
}

func gatewayObject(name, host string, tls bool) *unstructured.Unstructured {
	server := map[string]any{
		"port": map[string]any{"number": int64(8080), "name": "http", "protocol": "HTTP"}, "hosts": []any{host},
	}
	if tls {
		server["port"] = map[string]any{"number": int64(8443), "name": "https", "protocol": "HTTPS"}
		server["tls"] = map[string]any{"mode": "SIMPLE", "credentialName": name}
	}
	return object("Gateway", name, map[string]any{
		"selector": map[string]any{"istio": "ingressgateway"}, "servers": []any{server},
	})
}

func object(kind, name string, spec map[string]any) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "networking.istio.io/v1", "kind": kind, "metadata": map[string]any{"name": name}, "spec": spec,
	}}
}

// gatewayNode is the identity of gateway i.
func gatewayNode(i int) (*core.Node, error) {
	ip, name := fmt.Sprintf("10.99.%d.%d", i/250, i%250+1), fmt.Sprintf("gateway-%d", i)
	metadata, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": "ns-0", "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "SERVICE_ACCOUNT": "gateway",
		"INSTANCE_IPS": ip, "MESH_ID": "cluster.local", "NAME": name, "WORKLOAD_NAME": "gateway",
		"LABELS": map[string]any{"istio": "ingressgateway", "app": "gateway"},
	})
	if err != nil {
		return nil, err
	}
	return &core.Node{Id: fmt.Sprintf("router~%s~%s.ns-0~ns-0.svc.cluster.local", ip, name), Metadata: metadata}, nil
}
