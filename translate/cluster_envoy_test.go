package translate_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpoint "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestEnvoyTakesClusters gives every cluster and every assignment of every
// case to a running Envoy, the way ADS does. Each gets a name of its own, since
// an Envoy wants it once; an assignment comes as that of a static cluster, and
// names become localhost, so that no question leaves the machine.
func TestEnvoyTakesClusters(t *testing.T) {
	envoytest.Binary(t)
	var clusters []any
	add := func(c *cluster.Cluster) {
		c.Name = strconv.Itoa(len(clusters)) + " " + c.Name
		stayOnMachine(c)
		uniqueCache(t, c)
		clusters = append(clusters, withType(t, c))
	}
	for _, w := range worlds(t) {
		for _, r := range w.all("cluster") {
			c := &cluster.Cluster{}
			if err := proto.Unmarshal(r.Bytes(), c); err != nil {
				t.Fatal(err)
			}
			add(c)
		}
		for _, r := range w.all("endpoints") {
			a := &endpoint.ClusterLoadAssignment{}
			if err := proto.Unmarshal(r.Bytes(), a); err != nil {
				t.Fatal(err)
			}
			add(&cluster.Cluster{
				Name: "assignment", LoadAssignment: a,
				ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
			})
		}
	}
	takenByEnvoy(t, clusters)
}

// worlds are the worlds of every case that is for an Envoy.
func worlds(t *testing.T) []*world {
	t.Helper()
	var out []*world
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".txtar" {
			return err
		}
		archive, err := txtar.ParseFile(path)
		if err != nil {
			return err
		}
		if w := newWorld(t, archive); w.proxy.Generator == "" {
			out = append(out, w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// takenByEnvoy starts an Envoy that reads clusters from a file and waits until
// it has taken all of them, or none.
func takenByEnvoy(t *testing.T, clusters []any) {
	t.Helper()
	dir := t.TempDir()
	cds, socket := filepath.Join(dir, "cds.json"), filepath.Join(dir, "admin")
	write(t, cds, map[string]any{"resources": clusters})
	var boot map[string]any
	if err := json.Unmarshal(bootstrapWith(t, nil), &boot); err != nil {
		t.Fatal(err)
	}
	boot["admin"] = map[string]any{"address": map[string]any{"pipe": map[string]any{"path": socket}}}
	boot["dynamic_resources"].(map[string]any)["cds_config"] = map[string]any{
		"path_config_source": map[string]any{"path": cds}, "resource_api_version": "V3",
	}
	js, err := json.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	e := envoytest.Start(t, js)
	admin := envoytest.Admin(t, socket)
	envoytest.Eventually(t, 30*time.Second, func() string {
		_, body, err := envoytest.Get(admin, "/stats?filter=cluster_manager.cds.update_(success|rejected)")
		switch {
		case err != nil:
			return err.Error()
		case strings.Contains(body, "update_rejected: 1"):
			t.Fatalf("Envoy refuses clusters:\n%s", e.Log())
		case !strings.Contains(body, "update_success: 1"):
			return "Envoy has not read the clusters: " + body
		}
		return ""
	})
}

func write(t *testing.T, file string, v any) {
	t.Helper()
	js, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, js, 0o600); err != nil {
		t.Fatal(err)
	}
}

// withType is the JSON of a message in an Any.
func withType(t *testing.T, m proto.Message) json.RawMessage {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return asJSONMessage(t, a)
}

func stayOnMachine(c *cluster.Cluster) {
	if c.LoadAssignment == nil {
		return
	}
	c.LoadAssignment.ClusterName = c.Name
	if c.GetType() == cluster.Cluster_STATIC {
		return
	}
	for _, l := range c.LoadAssignment.Endpoints {
		for _, e := range l.LbEndpoints {
			if a := e.GetEndpoint().GetAddress().GetSocketAddress(); a != nil {
				a.Address = "localhost"
			}
		}
	}
}

// uniqueCache renames a forwarding cluster's DNS cache, of which each name can
// have one configuration only.
func uniqueCache(t *testing.T, c *cluster.Cluster) {
	t.Helper()
	custom := c.GetClusterType().GetTypedConfig()
	if custom == nil || c.GetClusterType().GetName() == "envoy.cluster.dns" {
		return
	}
	m, err := custom.UnmarshalNew()
	if err != nil {
		t.Fatal(err)
	}
	cache := m.ProtoReflect().Get(m.ProtoReflect().Descriptor().Fields().ByName("dns_cache_config")).Message()
	name := cache.Descriptor().Fields().ByName("name")
	cache.Set(name, protoString(c.Name))
	packed, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	c.GetClusterType().TypedConfig = packed
}

// validate runs Envoy's own check over a bootstrap whose static resources
// change completes.
func validate(t *testing.T, envoy string, change func(static map[string]any)) {
	t.Helper()
	var boot map[string]any
	if err := json.Unmarshal(bootstrapWith(t, nil), &boot); err != nil {
		t.Fatal(err)
	}
	change(boot["static_resources"].(map[string]any))
	js, err := json.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(file, js, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(envoy, "--mode", "validate", "-c", file, "--log-level", "error").CombinedOutput()
	if err != nil {
		t.Errorf("Envoy refuses: %v\n%s", err, out)
	}
}

// TestEnvoyTakesSecrets gives Secrets with real keys to a real Envoy, as the
// certificates of a cluster.
func TestEnvoyTakesSecrets(t *testing.T) {
	envoy := envoytest.Binary(t)
	m := secretMesh(t)
	tr := translate.NewTranslator(10)
	validate(t, envoy, func(static map[string]any) {
		var secrets []any
		for _, name := range []string{"kubernetes://rsa", "kubernetes://ecdsa", "kubernetes://rsa-cacert"} {
			r, problems := tr.Secret(m, translate.Reader{Namespace: "default"}, name)
			if r == nil {
				t.Fatalf("%s: %v", name, problems)
			}
			secrets = append(secrets, asJSON(t, r, &tls.Secret{}))
		}
		static["secrets"] = secrets
		for i, own := range []string{"kubernetes://rsa", "kubernetes://ecdsa"} {
			static["clusters"] = append(static["clusters"].([]any), asJSONMessage(t, usingSecrets(t, i, own)))
		}
	})
}

func usingSecrets(t *testing.T, i int, own string) *cluster.Cluster {
	t.Helper()
	ctx, err := anypb.New(&tls.UpstreamTlsContext{CommonTlsContext: &tls.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tls.SdsSecretConfig{{Name: own}},
		ValidationContextType: &tls.CommonTlsContext_ValidationContextSdsSecretConfig{
			ValidationContextSdsSecretConfig: &tls.SdsSecretConfig{Name: "kubernetes://rsa-cacert"},
		},
	}})
	if err != nil {
		t.Fatal(err)
	}
	return &cluster.Cluster{
		Name:                 "with secrets " + strconv.Itoa(i),
		ClusterDiscoveryType: &cluster.Cluster_Type{Type: cluster.Cluster_STATIC},
		TransportSocket: &core.TransportSocket{
			Name: "envoy.transport_sockets.tls", ConfigType: &core.TransportSocket_TypedConfig{TypedConfig: ctx},
		},
	}
}
