package main

import (
	"context"
	"fmt"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/types/known/structpb"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/kubernetes"
)

// shape is the mesh to seed: services s in namespaces ns-(s mod namespaces),
// each with pods in versions v1 and v2 by turns.
type shape struct{ services, pods, namespaces int }

func (s shape) namespace(service int) string { return fmt.Sprintf("ns-%d", service%s.namespaces) }

func serviceName(service int) string { return fmt.Sprintf("svc-%d", service) }

func podIP(i int) string { return fmt.Sprintf("10.%d.%d.%d", 100+i/62500, i/250%250, i%250+1) }

func version(pod int) string { return []string{"v1", "v2"}[pod%2] }

func podLabels(service, pod int) map[string]string {
	name := serviceName(service)
	return map[string]string{
		"app": name, "version": version(pod), "security.istio.io/tlsMode": "istio",
		"service.istio.io/canonical-name": name, "service.istio.io/canonical-revision": version(pod),
	}
}

// seed creates the mesh as plain API objects: no kubelet is needed.
func seed(ctx context.Context, client kubernetes.Interface, s shape) error {
	for n := range s.namespaces {
		name := fmt.Sprintf("ns-%d", n)
		if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(16)
	for i := range s.services {
		g.Go(func() error { return seedService(ctx, client, s, i) })
	}
	return g.Wait()
}

func seedService(ctx context.Context, client kubernetes.Interface, s shape, i int) error {
	ns, name := s.namespace(i), serviceName(i)
	_, err := client.CoreV1().Services(ns).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"app": name}},
		Spec: corev1.ServiceSpec{Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{
			{Name: "http", Port: 80, TargetPort: intstr.FromInt32(8080)},
			{Name: "tcp-admin", Port: 9000, TargetPort: intstr.FromInt32(9000)},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	endpoints := make([]discoveryv1.Endpoint, s.pods)
	for p := range s.pods {
		if endpoints[p], err = seedPod(ctx, client, s, i, p); err != nil {
			return err
		}
	}
	port := func(name string, number int32) discoveryv1.EndpointPort {
		return discoveryv1.EndpointPort{Name: &name, Port: &number, Protocol: ptr(corev1.ProtocolTCP)}
	}
	_, err = client.DiscoveryV1().EndpointSlices(ns).Create(ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}},
		AddressType: discoveryv1.AddressTypeIPv4, Endpoints: endpoints,
		Ports: []discoveryv1.EndpointPort{port("http", 8080), port("tcp-admin", 9000)},
	}, metav1.CreateOptions{})
	return err
}

func seedPod(ctx context.Context, client kubernetes.Interface, s shape, service, p int) (discoveryv1.Endpoint, error) {
	ns, name, ip := s.namespace(service), fmt.Sprintf("%s-%d", serviceName(service), p), podIP(service*s.pods+p)
	pod, err := client.CoreV1().Pods(ns).Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: podLabels(service, p)},
		Spec: corev1.PodSpec{ServiceAccountName: "default", NodeName: "node-0",
			Containers: []corev1.Container{{Name: "app", Image: "app"}}},
	}, metav1.CreateOptions{})
	if err != nil {
		return discoveryv1.Endpoint{}, err
	}
	pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip, PodIPs: []corev1.PodIP{{IP: ip}},
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}}
	if _, err := client.CoreV1().Pods(ns).UpdateStatus(ctx, pod, metav1.UpdateOptions{}); err != nil {
		return discoveryv1.Endpoint{}, err
	}
	return discoveryv1.Endpoint{Addresses: []string{ip}, Conditions: discoveryv1.EndpointConditions{Ready: ptr(true)},
		TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: name, Namespace: ns}}, nil
}

func ptr[T any](v T) *T { return &v }

// node is the identity that pod i of the mesh's pods connects with, or gateway i.
func (s shape) node(i int, gateway bool) (*core.Node, error) {
	if gateway {
		return gatewayNode(i)
	}
	service, p := i/s.pods%s.services, i%s.pods
	ns, ip := s.namespace(service), podIP(service*s.pods+p)
	labels := map[string]any{}
	for k, v := range podLabels(service, p) {
		labels[k] = v
	}
	name := fmt.Sprintf("%s-%d", serviceName(service), p)
	if again := i / s.pods / s.services; again > 0 {
		name += fmt.Sprintf("-%d", again) // more proxies than pods
	}
	metadata, err := structpb.NewStruct(map[string]any{
		"NAMESPACE": ns, "CLUSTER_ID": "Kubernetes", "ISTIO_VERSION": "1.31.0", "SERVICE_ACCOUNT": "default",
		"INSTANCE_IPS": ip, "INTERCEPTION_MODE": "REDIRECT", "MESH_ID": "cluster.local",
		"NAME": name, "WORKLOAD_NAME": serviceName(service), "LABELS": labels,
	})
	if err != nil {
		return nil, err
	}
	return &core.Node{Id: fmt.Sprintf("sidecar~%s~%s.%s~%s.svc.cluster.local", ip, name, ns, ns), Metadata: metadata}, nil
}
