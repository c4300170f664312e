package mesh

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pilotfish-mesh/pilotfish/manifests/images"
)

// providers are what the mesh of these tests can be asked to use; the Services
// come with TestPolicies.
const providers = `
extraArgs: [--jwks-internal] # the issuer of TestPolicies is in the cluster
meshConfig:
  extensionProviders:
  - name: by-http
    envoyExtAuthzHttp:
      {service: authorizer.policies-outside.svc.cluster.local, port: 8000, includeRequestHeadersInCheck: [x-ext-authz], headersToUpstreamOnAllow: [x-decided-for]}
  - name: by-grpc
    envoyExtAuthzGrpc: {service: authorizer.policies-outside.svc.cluster.local, port: 9000}
  - name: collector
    opentelemetry: {service: collector.policies-outside.svc.cluster.local, port: 4317}
`

// issuer signs tokens.
type issuer struct {
	name string
	key  *rsa.PrivateKey
}

func newIssuer(t *testing.T, name string) issuer {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return issuer{name, key}
}

// keys are the issuer's, as RFC 7517 writes them.
func (i issuer) keys() string {
	enc := base64.RawURLEncoding.EncodeToString
	return fmt.Sprintf(`{"keys":[{"kty":"RSA","kid":"k","alg":"RS256","n":%q,"e":%q}]}`,
		enc(i.key.N.Bytes()), enc(big.NewInt(int64(i.key.E)).Bytes()))
}

// token is the value of a header with a token that expires in an hour, signed
// by an algorithm (RS256, or none).
func (i issuer) token(t *testing.T, algorithm string, life time.Duration) string {
	t.Helper()
	part := func(v any) string {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	signed := part(map[string]any{"alg": algorithm, "kid": "k", "typ": "JWT"}) + "." +
		part(map[string]any{"iss": i.name, "sub": "somebody", "exp": time.Now().Add(life).Unix()})
	if algorithm == "none" {
		return "Bearer " + signed + "."
	}
	sum := sha256.Sum256([]byte(signed))
	signature, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	if err != nil {
		t.Fatal(err)
	}
	return "Bearer " + signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

// policyHelpers are outside of the mesh: an authorizer, an issuer's keys, a rate
// limit service, and a collector whose output can be read.
const policyHelpers = `
apiVersion: v1
kind: Pod
metadata: {name: authorizer, labels: {app: authorizer}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: app, image: APP, args: [authorize], readinessProbe: {tcpSocket: {port: 8000}, periodSeconds: 1}}
---
apiVersion: v1
kind: Service
metadata: {name: authorizer}
spec:
  selector: {app: authorizer}
  ports: [{name: http, port: 8000}, {name: grpc, port: 9000}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: issuer}
data:
  jwks.json: |
    KEYS
---
apiVersion: v1
kind: Pod
metadata: {name: issuer, labels: {app: issuer}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: app
    image: APP
    args: [files, ":8080", /keys]
    readinessProbe: {httpGet: {path: /jwks.json, port: 8080}, periodSeconds: 1}
    volumeMounts: [{name: keys, mountPath: /keys}]
  volumes: [{name: keys, configMap: {name: issuer}}]
---
apiVersion: v1
kind: Service
metadata: {name: issuer}
spec:
  selector: {app: issuer}
  ports: [{name: http, port: 80, targetPort: 8080}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: ratelimit}
data:
  limits.yaml: |
    domain: policies
    descriptors:
    - {key: tenant, rate_limit: {unit: hour, requests_per_unit: 2}}
---
apiVersion: v1
kind: Pod
metadata: {name: ratelimit, labels: {app: ratelimit}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: ratelimit
    image: RATELIMIT
    imagePullPolicy: Never
    env:
    - {name: RUNTIME_ROOT, value: /data}
    - {name: RUNTIME_SUBDIRECTORY, value: ratelimit}
    - {name: RUNTIME_WATCH_ROOT, value: "false"}
    - {name: RUNTIME_IGNOREDOTFILES, value: "true"} # a ConfigMap's own
    - {name: USE_STATSD, value: "false"}
    readinessProbe: {tcpSocket: {port: 8081}, periodSeconds: 1}
    volumeMounts: [{name: limits, mountPath: /data/ratelimit/config}]
  volumes: [{name: limits, configMap: {name: ratelimit, items: [{key: limits.yaml, path: limits.yaml}]}}]
---
apiVersion: v1
kind: Service
metadata: {name: ratelimit}
spec:
  selector: {app: ratelimit}
  ports: [{name: grpc, port: 8081}]
---
apiVersion: v1
kind: ConfigMap
metadata: {name: collector}
data:
  collector.yaml: |
    receivers: {otlp: {protocols: {grpc: {endpoint: "0.0.0.0:4317"}}}}
    exporters: {file: {path: /out/traces, flush_interval: 50ms}}
    service:
      telemetry: {metrics: {level: none}}
      pipelines: {traces: {receivers: [otlp], exporters: [file]}}
---
apiVersion: v1
kind: Pod
metadata: {name: collector, labels: {app: collector}}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - name: collector
    image: COLLECTOR
    imagePullPolicy: Never
    args: [--config=/etc/otelcol/collector.yaml]
    readinessProbe: {tcpSocket: {port: 4317}, periodSeconds: 1}
    volumeMounts: [{name: config, mountPath: /etc/otelcol}, {name: out, mountPath: /out}]
  - name: output
    image: APP
    args: [files, ":8080", /out]
    volumeMounts: [{name: out, mountPath: /out}]
  volumes: [{name: config, configMap: {name: collector}}, {name: out, emptyDir: {}}]
---
apiVersion: v1
kind: Service
metadata: {name: collector}
spec:
  selector: {app: collector}
  ports: [{name: grpc, port: 4317}, {name: http, port: 8080}]
`

// policies are what TestPolicies asks of the workloads web and limited of
// namespace policies, of all of policies-closed, and of the gateway for one host.
const policies = `
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: policies, namespace: policies}
spec:
  selector: {istio: ingressgateway}
  servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: [policies.example.com]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: policies, namespace: policies}
spec:
  hosts: [policies.example.com]
  gateways: [policies]
  http: [{route: [{destination: {host: web}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: policies-gateway, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  jwtRules: [{issuer: at-the-gateway, jwks: 'INLINE'}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: policies-gateway, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: DENY
  rules: [{from: [{source: {notRequestPrincipals: ["at-the-gateway/*"]}}], to: [{operation: {hosts: [policies.example.com], notPaths: [/by-*]}}]}]
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: web, namespace: policies}
spec:
  selector: {matchLabels: {app: web}}
  jwtRules:
  - {issuer: at-the-sidecar, jwksUri: "http://issuer.policies-outside.svc.cluster.local/jwks.json"}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-tokens, namespace: policies}
spec:
  selector: {matchLabels: {app: web}}
  action: DENY
  rules: [{from: [{source: {notRequestPrincipals: ["at-the-sidecar/somebody"]}}], to: [{operation: {paths: [/token]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: web-by-http, namespace: policies}
spec:
  selector: {matchLabels: {app: web}}
  action: CUSTOM
  provider: {name: by-http}
  rules: [{to: [{operation: {paths: [/by-http]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: gateway-by-grpc, namespace: istio-system}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  action: CUSTOM
  provider: {name: by-grpc}
  rules: [{to: [{operation: {hosts: [policies.example.com], paths: [/by-grpc]}}]}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: nothing, namespace: policies-closed}
spec: {}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: some, namespace: policies-closed}
spec:
  selector: {matchLabels: {app: closed}}
  rules:
  - from: [{source: {namespaces: [policies]}}]
    to: [{operation: {methods: [GET], paths: [/open, /open/*]}}]
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: policies, namespace: policies}
spec: {tracing: [{providers: [{name: collector}], randomSamplingPercentage: 100}]}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: limited, namespace: policies}
spec:
  workloadSelector: {labels: {app: limited}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.local_ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit
          stat_prefix: limited
          token_bucket: {max_tokens: 4, tokens_per_fill: 4, fill_interval: 3600s}
          filter_enabled: {default_value: {numerator: 100, denominator: HUNDRED}}
          filter_enforced: {default_value: {numerator: 100, denominator: HUNDRED}}
---
apiVersion: networking.istio.io/v1alpha3
kind: EnvoyFilter
metadata: {name: counted, namespace: policies}
spec:
  workloadSelector: {labels: {app: web}}
  configPatches:
  - applyTo: HTTP_FILTER
    match: {context: SIDECAR_INBOUND, listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager, subFilter: {name: envoy.filters.http.router}}}}}
    patch:
      operation: INSERT_BEFORE
      value:
        name: envoy.filters.http.ratelimit
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.http.ratelimit.v3.RateLimit
          domain: policies
          failure_mode_deny: true
          timeout: 10s
          rate_limit_service:
            transport_api_version: V3
            grpc_service: {envoy_grpc: {cluster_name: outbound|8081||ratelimit.policies-outside.svc.cluster.local}}
  - applyTo: VIRTUAL_HOST
    match: {context: SIDECAR_INBOUND}
    patch:
      operation: MERGE
      value: {rate_limits: [{actions: [{request_headers: {header_name: x-tenant, descriptor_key: tenant}}]}]}
`

// TestPolicies: who may call whom, decided by tokens, identities and others, at
// the gateway and at sidecars; limits of rates; and one trace of a request's way.
func TestPolicies(t *testing.T) {
	w := need(t)
	t.Parallel() // it mostly waits
	collector := w.image(t, "otelcol", []images.File{{Path: "/otelcol", Source: w.built(t, "otelcol")}, writable})
	ratelimit := w.image(t, "ratelimit", []images.File{{Path: "/ratelimit", Source: w.built(t, "ratelimit")}, writable})
	const outsideNS, ns = "policies-outside", "policies"
	w.namespace(t, outsideNS)
	w.namespace(t, "policies-other", "istio-injection=enabled")
	w.namespace(t, "policies-closed", "istio-injection=enabled")
	w.namespace(t, ns, "istio-injection=enabled")
	edge, sidecar, stranger := newIssuer(t, "at-the-gateway"), newIssuer(t, "at-the-sidecar"), newIssuer(t, "at-the-sidecar")
	w.apply(t, outsideNS, strings.NewReplacer("APP", appImage, "COLLECTOR", collector, "RATELIMIT", ratelimit, "KEYS", sidecar.keys()).Replace(policyHelpers))
	w.apply(t, ns, service("web")+application("web", "v1", 1)+service("limited")+application("limited", "v1", 1))
	w.apply(t, "policies-closed", service("closed")+application("closed", "v1", 1))
	all := strings.ReplaceAll(policies, "INLINE", edge.keys())
	t.Cleanup(func() { // what is outside of the test's namespaces
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if out, err := w.kubectl(ctx, all, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
	})
	w.apply(t, "", all)
	client, other := w.drive(t, ns, "client"), w.drive(t, "policies-other", "client")
	outside := w.drive(t, outsideNS, "client")
	for _, app := range []string{"web", "limited"} {
		w.ready(t, ns, "app="+app, 1)
	}
	w.ready(t, "policies-closed", "app=closed", 1)
	for _, app := range []string{"authorizer", "issuer", "collector", "ratelimit"} {
		w.ready(t, outsideNS, "app="+app, 1)
	}

	const gateway, web, closed = "http://istio-ingressgateway.istio-system", "http://web.policies", "http://closed.policies-closed"
	type headers = map[string]string
	host := func(h headers) headers {
		out := headers{"Host": "policies.example.com"}
		for k, v := range h {
			out[k] = v
		}
		return out
	}
	bearer := func(i issuer, algorithm string, life time.Duration) headers {
		return headers{"Authorization": i.token(t, algorithm, life)}
	}
	for _, c := range []struct {
		name    string
		from    *driver
		url     string
		headers headers
		want    int
	}{
		{"gateway, a good token", outside, gateway + "/", host(bearer(edge, "RS256", time.Hour)), 200},
		{"gateway, no token", outside, gateway + "/", host(nil), 403},
		{"gateway, an expired token", outside, gateway + "/", host(bearer(edge, "RS256", -time.Hour)), 401},
		{"gateway, an unsigned token", outside, gateway + "/", host(bearer(edge, "none", time.Hour)), 401},
		{"gateway, another's token", outside, gateway + "/", host(bearer(issuer{"at-the-gateway", stranger.key}, "RS256", time.Hour)), 401},
		{"sidecar, a good token, keys fetched", client, web + "/token", bearer(sidecar, "RS256", time.Hour), 200},
		{"sidecar, no token", client, web + "/token", nil, 403},
		{"sidecar, another's token", client, web + "/token", bearer(stranger, "RS256", time.Hour), 401},
		{"sidecar, a path that needs none", client, web + "/", nil, 200},
		{"authorizer over HTTP, allowed", client, web + "/by-http", headers{"x-ext-authz": "allow"}, 200},
		{"authorizer over HTTP, refused", client, web + "/by-http", nil, 403},
		{"authorizer over gRPC, allowed", outside, gateway + "/by-grpc", host(headers{"x-ext-authz": "allow"}), 200},
		{"authorizer over gRPC, refused", outside, gateway + "/by-grpc", host(nil), 403},
		{"between namespaces, allowed", client, closed + "/open/door", nil, 200},
		{"between namespaces, another path", client, closed + "/", nil, 403},
		{"between namespaces, another namespace", other, closed + "/open/door", nil, 403},
		{"between namespaces, no identity", outside, closed + "/open/door", nil, 403},
	} {
		t.Run(c.name, func(t *testing.T) {
			w.await(t, fmt.Sprint("an answer ", c.want), func(ctx context.Context) error {
				f, err := c.from.fetch(ctx, c.url, c.headers)
				if err == nil && f.Status != c.want {
					err = fmt.Errorf("%d %s %s", f.Status, f.Error, f.Body)
				}
				return err
			})
		})
	}
	t.Run("what the authorizer adds", func(t *testing.T) {
		f, err := client.fetch(t.Context(), web+"/by-http", headers{"x-ext-authz": "allow"})
		if err != nil || !strings.Contains(f.Body, `"X-Decided-For":["/by-http"]`) {
			t.Errorf("%v, %+v", err, f)
		}
	})
	for name, c := range map[string]struct {
		url     string
		headers headers
		want    []int
	}{
		"local rate limit":                   {"http://limited.policies/", nil, []int{200, 200, 200, 200, 429, 429}},
		"global rate limit":                  {web + "/", headers{"x-tenant": "a"}, []int{200, 200, 429, 429}},
		"global rate limit, what is counted": {web + "/", nil, []int{200, 200, 200, 200}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int
			for range c.want {
				f, err := client.fetch(t.Context(), c.url, c.headers)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, f.Status)
			}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("answers %v, want %v", got, c.want)
			}
		})
	}
	t.Run("one trace of gateway and sidecar", func(t *testing.T) {
		const id = "4bf92f3577b34da6a3ce929d0e0e4736"
		w.await(t, "spans of client and server", func(ctx context.Context) error {
			if f, err := client.fetch(ctx, web+"/", headers{"traceparent": "00-" + id + "-00f067aa0ba902b7-01"}); err != nil || f.Status != http.StatusOK {
				return fmt.Errorf("%w, %+v", err, f)
			}
			f, err := outside.fetch(ctx, "http://collector:8080/traces", nil)
			if err != nil {
				return err
			}
			return spansOf(f.Body, id, "client.policies", "web.policies")
		})
	})
}

// spansOf looks in the collector's lines of JSON for spans of one trace, by
// every one of some services.
func spansOf(lines, trace string, services ...string) error {
	type batch struct {
		ResourceSpans []struct {
			Resource struct {
				Attributes []struct {
					Key   string `json:"key"`
					Value struct {
						StringValue string `json:"stringValue"`
					} `json:"value"`
				} `json:"attributes"`
			} `json:"resource"`
			ScopeSpans []struct {
				Spans []struct {
					TraceID string `json:"traceId"`
				} `json:"spans"`
			} `json:"scopeSpans"`
		} `json:"resourceSpans"`
	}
	found := map[string]bool{}
	for line := range strings.Lines(lines) {
		var b batch
		if err := json.Unmarshal([]byte(line), &b); err != nil {
			return err // it is being written
		}
		for _, r := range b.ResourceSpans {
			name := ""
			for _, a := range r.Resource.Attributes {
				if a.Key == "service.name" {
					name = a.Value.StringValue
				}
			}
			for _, s := range r.ScopeSpans {
				for _, span := range s.Spans {
					if span.TraceID == trace {
						found[name] = true
					}
				}
			}
		}
	}
	for _, s := range services {
		if !found[s] {
			return fmt.Errorf("no span of %s, only of %v", s, found)
		}
	}
	return nil
}

// built is one of the tools that tools/build.sh makes.
func (w *world) built(t *testing.T, name string) string {
	t.Helper()
	path := w.tool(name)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("tools/build.sh %s has not run", name)
	}
	t.Skip(errors.New("needs tools/build.sh " + filepath.Base(name)))
	return ""
}
