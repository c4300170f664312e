package replicas

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/transport/spdy"
	"k8s.io/streaming/pkg/httpstream"
)

// monitoringPort is that of a replica's metrics and debug pages.
const monitoringPort = 15014

// Forwarded are the replicas that run in a cluster, reached through its API
// server: their debug pages answer their own machine only.
type Forwarded struct {
	config    *rest.Config
	client    kubernetes.Interface
	namespace string
	open      map[string]*forward // by the pod's UID
}

// forward is a way to one pod.
type forward struct {
	stop chan struct{}
	done chan struct{} // closed when err is set
	err  error
	url  string
}

// NewForwarded finds the replicas in a namespace of a cluster by the label
// app=istiod.
func NewForwarded(c *rest.Config, namespace string) (*Forwarded, error) {
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, err
	}
	return &Forwarded{config: c, client: client, namespace: namespace, open: map[string]*forward{}}, nil
}

// Addresses implements Set. Replicas that are not ready serve nobody new
// and are left out.
func (f *Forwarded) Addresses(ctx context.Context) ([]string, error) {
	pods, err := f.client.CoreV1().Pods(f.namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=istiod"})
	if err != nil {
		return nil, err
	}
	var out []string
	present := map[string]bool{}
	for i := range pods.Items {
		p := &pods.Items[i]
		if !ready(p) {
			continue
		}
		id := string(p.UID)
		present[id] = true
		way := f.open[id]
		if way == nil || way.ended() {
			if way, err = f.forward(ctx, p.Name); err != nil {
				return nil, fmt.Errorf("reach pod %s/%s: %w", f.namespace, p.Name, err)
			}
			f.open[id] = way
		}
		out = append(out, way.url)
	}
	for id, way := range f.open {
		if !present[id] {
			way.close()
			delete(f.open, id)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no pod with label app=istiod is ready in namespace %s", f.namespace)
	}
	return out, nil
}

// Close implements Set.
func (f *Forwarded) Close() {
	for id, way := range f.open {
		way.close()
		delete(f.open, id)
	}
}

func ready(p *corev1.Pod) bool {
	if p.DeletionTimestamp != nil {
		return false
	}
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// forward opens a port of this machine that leads to a pod's.
func (f *Forwarded) forward(ctx context.Context, pod string) (*forward, error) {
	dialer, err := f.dialer(pod)
	if err != nil {
		return nil, err
	}
	way := &forward{stop: make(chan struct{}), done: make(chan struct{})}
	opened := make(chan struct{})
	var problems bytes.Buffer
	pf, err := portforward.NewOnAddressesForStreaming(dialer, []string{"127.0.0.1"}, []string{fmt.Sprintf("0:%d", monitoringPort)}, way.stop, opened, nil, &problems)
	if err != nil {
		return nil, err
	}
	go func() {
		way.err = pf.ForwardPorts()
		close(way.done)
	}()
	select {
	case <-opened:
	case <-way.done:
		if way.err == nil {
			return nil, errors.New("the connection ended")
		}
		return nil, way.err
	case <-ctx.Done():
		way.close()
		return nil, ctx.Err()
	}
	ports, err := pf.GetPorts()
	if err != nil {
		way.close()
		return nil, err
	}
	way.url = fmt.Sprintf("http://127.0.0.1:%d", ports[0].Local)
	return way, nil
}

// dialer speaks to the API server over WebSockets, or SPDY where it does not
// know them.
func (f *Forwarded) dialer(pod string) (httpstream.Dialer, error) {
	at := f.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(f.namespace).Name(pod).SubResource("portforward").URL()
	transport, upgrader, err := spdy.RoundTripperFor(f.config)
	if err != nil {
		return nil, err
	}
	old := spdy.NewDialerForStreaming(upgrader, &http.Client{Transport: transport}, http.MethodPost, at)
	tunnel, err := portforward.NewSPDYOverWebsocketDialerForStreaming(at, f.config)
	if err != nil {
		return nil, err
	}
	return portforward.NewFallbackDialerForStreaming(tunnel, old, func(err error) bool {
		return httpstream.IsUpgradeFailure(err) || httpstream.IsHTTPSProxyError(err)
	}), nil
}

func (w *forward) ended() bool {
	select {
	case <-w.done:
		return true
	default:
		return false
	}
}

func (w *forward) close() {
	close(w.stop)
	<-w.done
}
