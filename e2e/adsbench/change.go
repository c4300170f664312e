package main

import (
	"context"
	"fmt"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
)

var virtualServices = schema.GroupVersionResource{Group: "networking.istio.io", Version: "v1", Resource: "virtualservices"}

// change is one kind of change to the mesh: prepare returns a text that a
// resource of every proxy will contain once it has the change, and the call
// that makes it.
type change struct {
	name string
	// local: only the proxies of ns-0 see it.
	local   bool
	prepare func(ctx context.Context, round int) (text string, apply func() error, err error)
}

// mesh is the API that the changes go through.
type mesh struct {
	client  kubernetes.Interface
	dynamic dynamic.Interface
	shape   shape
	churned atomic.Int64
	run     string // tells the texts of this run from an earlier one's
}

func (m *mesh) changes() []change {
	return []change{
		{"endpoint", false, m.endpoint}, {"route", false, m.route}, {"route of one namespace", true, m.localRoute},
		{"service", false, m.service},
	}
}

// endpoint gives svc-0 one other address.
func (m *mesh) endpoint(ctx context.Context, round int) (string, func() error, error) {
	ip := fmt.Sprintf("172.%d.%s.%d", 16+round%16, m.run, round/16+1)
	update, err := m.addAddress(ctx, 0, ip)
	return ip, update, err
}

// addAddress gives a service one other address.
func (m *mesh) addAddress(ctx context.Context, service int, ip string) (func() error, error) {
	slices := m.client.DiscoveryV1().EndpointSlices(m.shape.namespace(service))
	slice, err := slices.Get(ctx, serviceName(service), metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	slice.Endpoints = append(slice.Endpoints[:m.shape.pods:m.shape.pods], discoveryv1.Endpoint{
		Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)},
	})
	return func() error {
		_, err := slices.Update(ctx, slice, metav1.UpdateOptions{})
		return err
	}, nil
}

// route changes the VirtualService of svc-0.
func (m *mesh) route(ctx context.Context, round int) (string, func() error, error) {
	return m.virtualService(ctx, "canary", "*", round)
}

// localRoute changes one that only its own namespace sees.
func (m *mesh) localRoute(ctx context.Context, round int) (string, func() error, error) {
	return m.virtualService(ctx, "a-local-canary", ".", round)
}

func (m *mesh) virtualService(ctx context.Context, name, exportTo string, round int) (string, func() error, error) {
	mark := fmt.Sprintf("%s-%s-%d-", name, m.run, round)
	body := fmt.Sprintf(`{"apiVersion":"networking.istio.io/v1","kind":"VirtualService",
 "metadata":{"name":%q,"namespace":"ns-0"},
 "spec":{"exportTo":[%q],"hosts":["svc-0.ns-0.svc.cluster.local"],"http":[{"name":%q,
  "headers":{"response":{"set":{"x-mark":%q}}},
  "route":[{"destination":{"host":"svc-0.ns-0.svc.cluster.local"},"weight":%d},
           {"destination":{"host":"svc-1.ns-%d.svc.cluster.local"},"weight":%d}]}]}}`,
		name, exportTo, mark, mark, 99-round%90, 1%m.shape.namespaces, 1+round%90)
	return mark, func() error {
		_, err := m.dynamic.Resource(virtualServices).Namespace("ns-0").Patch(ctx, name,
			types.ApplyPatchType, []byte(body), metav1.PatchOptions{FieldManager: "adsbench", Force: ptr(true)})
		return err
	}, nil
}

// service adds a service.
func (m *mesh) service(ctx context.Context, round int) (string, func() error, error) {
	name := fmt.Sprintf("new-%s-%d-x", m.run, round)
	return name, func() error {
		_, err := m.client.CoreV1().Services("ns-0").Create(ctx, &corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"adsbench": "new"}},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}}},
		}, metav1.CreateOptions{})
		return err
	}, nil
}

// restore removes what the changes made, so that the next server starts from
// the same mesh.
func (m *mesh) restore(ctx context.Context) error {
	list, err := m.client.CoreV1().Services("ns-0").List(ctx, metav1.ListOptions{LabelSelector: "adsbench=new"})
	if err != nil {
		return err
	}
	for i := range list.Items {
		if err := m.client.CoreV1().Services("ns-0").Delete(ctx, list.Items[i].Name, metav1.DeleteOptions{}); err != nil {
			return err
		}
	}
	for i := range m.shape.namespaces { // each has a service whose endpoints change
		slices := m.client.DiscoveryV1().EndpointSlices(m.shape.namespace(i))
		slice, err := slices.Get(ctx, serviceName(i), metav1.GetOptions{})
		if err != nil {
			return err
		}
		slice.Endpoints = slice.Endpoints[:m.shape.pods]
		if _, err := slices.Update(ctx, slice, metav1.UpdateOptions{}); err != nil {
			return err
		}
	}
	for _, name := range []string{"canary", "a-local-canary"} {
		err = m.dynamic.Resource(virtualServices).Namespace("ns-0").Delete(ctx, name, metav1.DeleteOptions{})
		if err := ignoreNotFound(err); err != nil {
			return err
		}
	}
	return nil
}
