package modules

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"go.uber.org/zap"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilotfish-mesh/pilotfish/agent/retry"
)

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"

// upstream is what the control plane says, by one stream for all extensions.
type upstream struct {
	options *Options

	mu      sync.Mutex // guards what follows
	wanted  map[string]map[string]int
	configs map[string]*anypb.Any // of the wanted extensions
	secrets map[string][]byte     // of the wanted secrets
	node    *core.Node            // as Envoy describes itself
	refusal map[string]string     // why Envoy refuses what, by name
	// news is closed, and replaced, when configs or secrets change; asked when
	// what is wanted does.
	news, asked chan struct{}
}

func newUpstream(o *Options) *upstream {
	return &upstream{
		options: o,
		wanted:  map[string]map[string]int{extensionType: {}, secretType: {}},
		configs: map[string]*anypb.Any{}, secrets: map[string][]byte{}, refusal: map[string]string{},
		news: make(chan struct{}), asked: make(chan struct{}),
	}
}

// want asks for an extension, as the node that Envoy says it is: the control
// plane then knows both as one.
func (u *upstream) want(name string, node *core.Node) {
	u.mu.Lock()
	if node != nil {
		u.node = node
	}
	u.mu.Unlock()
	u.add(extensionType, name, 1)
}

func (u *upstream) unwant(name string) { u.add(extensionType, name, -1) }

// add counts who wants a resource.
func (u *upstream) add(kind, name string, n int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.wanted[kind][name] += n; u.wanted[kind][name] == 0 {
		delete(u.wanted[kind], name)
		if kind == extensionType {
			delete(u.configs, name)
		} else {
			delete(u.secrets, name)
		}
	}
	renew(&u.asked)
}

// refusalType is the type URL under which agents tell what of ECDS their Envoy
// refuses. Names are those of the extensions, each with the reason after a
// space; they are all that there are at present.
const refusalType = "type.googleapis.com/pilotfish.extensions.v1.Refusal"

// mostReason bounds what is told of one refusal, in bytes.
const mostReason = 1024

// refused notes that Envoy refuses what it was sent last of an extension:
// the control plane is to know.
func (u *upstream) refused(name, reason string) {
	if len(reason) > mostReason {
		reason = strings.ToValidUTF8(reason[:mostReason], "")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if was, ok := u.refusal[name]; !ok || was != reason {
		u.refusal[name] = reason
		renew(&u.asked)
	}
}

func (u *upstream) accepted(name string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if _, was := u.refusal[name]; was {
		delete(u.refusal, name)
		renew(&u.asked)
	}
}

func renew(c *chan struct{}) {
	close(*c)
	*c = make(chan struct{})
}

// config is what the control plane says of an extension, nil for nothing yet.
// changed is closed when it may have said something else.
func (u *upstream) config(name string) (config *anypb.Any, changed <-chan struct{}) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.configs[name], u.news
}

// secret waits for a pull secret.
func (u *upstream) secret(ctx context.Context, name string) ([]byte, error) {
	u.add(secretType, name, 1)
	defer u.add(secretType, name, -1)
	for {
		u.mu.Lock()
		found, news := u.secrets[name], u.news
		u.mu.Unlock()
		if found != nil {
			return found, nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return nil, fmt.Errorf("pull secret %s: the control plane does not give it: it must exist, be of type kubernetes.io/dockerconfigjson, and the workload's service account must be allowed to get it", name)
		}
	}
}

// run works until ctx ends. Without a control plane what it said stays.
func (u *upstream) run(ctx context.Context) {
	pauses := retry.Pauses{First: firstPause, Last: lastPause / 2}
	for u.awaitDemand(ctx) {
		began := time.Now()
		err := u.stream(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > lastPause {
			pauses.Reset()
		}
		next := pauses.Next()
		u.options.Log.Info("the stream of extensions has ended; those of before stay", zap.Error(err), zap.Duration("next_attempt_in", next))
		retry.Wait(ctx, next)
	}
}

// awaitDemand returns when something is wanted, or false when ctx ends: most
// proxies have no extension, and need no stream.
func (u *upstream) awaitDemand(ctx context.Context) bool {
	for {
		u.mu.Lock()
		any, asked := len(u.wanted[extensionType]) > 0, u.asked
		u.mu.Unlock()
		if any {
			return ctx.Err() == nil
		}
		select {
		case <-asked:
		case <-ctx.Done():
			return false
		}
	}
}

func (u *upstream) stream(ctx context.Context) error {
	conn, err := u.options.Connect()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	var receiving sync.WaitGroup
	defer receiving.Wait()
	defer func() { cancel(); _ = conn.Close() }()
	s, err := discovery.NewAggregatedDiscoveryServiceClient(conn).StreamAggregatedResources(ctx)
	if err != nil {
		return err
	}
	responses, ended := make(chan *discovery.DiscoveryResponse), make(chan error, 1)
	receiving.Go(func() {
		for {
			r, err := s.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case responses <- r:
			case <-ctx.Done():
				return
			}
		}
	})
	u.mu.Lock()
	node := u.node
	u.mu.Unlock()
	q := &requests{upstream: u, stream: s, node: node, state: map[string]*asked{extensionType: {}, secretType: {}}}
	for {
		news, err := q.send()
		if err != nil {
			return err
		}
		select {
		case r := <-responses:
			q.answer(r)
		case <-news:
		case err := <-ended:
			return err
		}
	}
}

// take keeps what a response says.
func (u *upstream) take(r *discovery.DiscoveryResponse) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	defer renew(&u.news)
	for _, a := range r.GetResources() {
		switch r.GetTypeUrl() {
		case extensionType:
			m := &core.TypedExtensionConfig{}
			if err := proto.Unmarshal(a.GetValue(), m); err != nil {
				return err
			}
			if u.wanted[extensionType][m.GetName()] > 0 && !proto.Equal(u.configs[m.GetName()], a) {
				u.configs[m.GetName()] = a
			}
		case secretType:
			m := &tls.Secret{}
			if err := proto.Unmarshal(a.GetValue(), m); err != nil {
				return err
			}
			if u.wanted[secretType][m.GetName()] > 0 {
				u.secrets[m.GetName()] = m.GetGenericSecret().GetSecret().GetInlineBytes()
			}
		}
	}
	return nil
}

// asked is what one type was asked for on a stream, and how it was answered.
type asked struct {
	names          []string
	nonce, version string
	due            bool // an answer waits to be acknowledged
	fault          string
}

// requests writes the client's half of a stream.
type requests struct {
	upstream *upstream
	stream   discovery.AggregatedDiscoveryService_StreamAggregatedResourcesClient
	node     *core.Node // nil after the first
	state    map[string]*asked
	told     []string // of refusals
}

func (q *requests) answer(r *discovery.DiscoveryResponse) {
	a := q.state[r.GetTypeUrl()]
	if a == nil {
		return // of a type that nobody asked for
	}
	a.nonce, a.due = r.GetNonce(), true
	if err := q.upstream.take(r); err != nil {
		a.fault = err.Error()
		return
	}
	a.version = r.GetVersionInfo()
}

// send says what is to be said now. news is closed when there may be more.
func (q *requests) send() (news <-chan struct{}, err error) {
	u := q.upstream
	u.mu.Lock()
	news = u.asked
	want := map[string][]string{}
	for kind, names := range u.wanted {
		want[kind] = slices.Sorted(maps.Keys(names))
	}
	var refusals []string
	for name, reason := range u.refusal {
		refusals = append(refusals, name+" "+reason)
	}
	u.mu.Unlock()
	slices.Sort(refusals)
	for _, kind := range []string{secretType, extensionType} {
		if err := q.ask(kind, want[kind]); err != nil {
			return nil, err
		}
	}
	if !slices.Equal(refusals, q.told) {
		q.told = refusals
		r := &discovery.DiscoveryRequest{Node: q.node, TypeUrl: refusalType, ResourceNames: refusals}
		q.node = nil
		if err := q.stream.Send(r); err != nil {
			return nil, err
		}
	}
	return news, nil
}

// ask sends a request if it says anything new.
func (q *requests) ask(kind string, names []string) error {
	a := q.state[kind]
	if !a.due && slices.Equal(a.names, names) || len(names) == 0 && a.nonce == "" {
		return nil // without names a first request would ask for all
	}
	r := &discovery.DiscoveryRequest{Node: q.node, TypeUrl: kind, ResourceNames: names, ResponseNonce: a.nonce, VersionInfo: a.version}
	if a.fault != "" {
		r.ErrorDetail = &rpc.Status{Code: int32(codes.InvalidArgument), Message: a.fault}
	}
	q.node, a.names, a.due, a.fault = nil, names, false, ""
	return q.stream.Send(r)
}
