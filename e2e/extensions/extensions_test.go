package extensions

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/registry"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"oras.land/oras-go/v2"
	"oras.land/oras-go/v2/content"
	"oras.land/oras-go/v2/registry/remote"
	"oras.land/oras-go/v2/registry/remote/auth"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

func TestMain(m *testing.M) { stage.Main(m) }

type world struct {
	*stage.Stage
	t *testing.T
}

func start(t *testing.T) *world {
	t.Helper()
	return &world{stage.StartWith(t, stage.Copy(t, "testdata"), up.Options{Mode: up.Loopback}), t}
}

// plugin is an extension for requests that come in at a workload.
func plugin(workload, spec string) string {
	return "apiVersion: extensions.istio.io/v1alpha1\nkind: WasmPlugin\nmetadata: {name: p, namespace: default}\nspec: {selector: {matchLabels: {app: " +
		workload + "}}, match: [{mode: SERVER}], " + spec + "}\n---\n"
}

// gives waits until a request to a service has an answer: its status, and
// header x-wasm.
func (w *world) gives(service, want string) {
	w.t.Helper()
	c := w.Inside("default/client", "http://"+service+":8080")
	envoytest.Eventually(w.t, 2*stage.Patience, func() string {
		r, err := c.Try(w.t.Context(), "/")
		if err != nil {
			return err.Error()
		}
		if got := strings.TrimSpace(fmt.Sprint(r.Status, " ", strings.Join(r.Header.Values("X-Wasm"), ","))); got != want {
			return got + ", want " + want
		}
		return ""
	})
}

// files serves modules, and counts.
type files struct {
	*httptest.Server
	module atomic.Pointer[[]byte]
	served atomic.Int64
}

func serve(t *testing.T, content []byte) *files {
	f := &files{}
	f.module.Store(&content)
	f.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		f.served.Add(1)
		if r.URL.Path != "/m.wasm" {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(*f.module.Load())
	}))
	t.Cleanup(f.Close)
	return f
}

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

// TestHTTP: a module is fetched once for all pods of a machine, and again only
// if the object says something else.
func TestHTTP(t *testing.T) {
	m := module("x-wasm", "a", false)
	f := serve(t, m)
	w := start(t)
	w.gives("web", "200")
	w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/m.wasm', sha256: '"+sum(m)+"', pluginConfig: {a: 1}"))
	w.gives("web", `200 {"a":1}`)
	w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/m.wasm', sha256: '"+sum(m)+"', pluginConfig: {a: 2}"))
	w.gives("web", `200 {"a":2}`)
	if n := f.served.Load(); n != 1 {
		t.Errorf("fetched %d times, want once", n)
	}
	w.gives("shop", "200") // of no concern to others
	// Another checksum is another module. It does not come, so that the one
	// before stays.
	w.Delivered(func() {
		w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/m.wasm', sha256: '"+strings.Repeat("0", 64)+"', pluginConfig: {a: 3}"))
	})
	w.gives("web", `200 {"a":2}`)
	other := module("x-wasm", "b", false)
	f.module.Store(&other)
	w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/m.wasm', imagePullPolicy: Always, pluginConfig: {a: 4}"))
	w.gives("web", `200 {"a":4}`)
	w.Remove("p.yaml")
	w.gives("web", "200")
}

// TestModuleThatCannotBeHad: all requests are refused, or let pass if the
// plugin says so; connections too. What is no module for Envoy is the same.
func TestModuleThatCannotBeHad(t *testing.T) {
	f := serve(t, []byte("\x00asm, but no more"))
	w := start(t)
	named := func(text, name string) string { return strings.Replace(text, "name: p,", "name: "+name+",", 1) }
	w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/away'")+named(plugin("shop", "url: '"+f.URL+"/away', failStrategy: FAIL_OPEN"), "q"))
	w.gives("web", "403")
	w.gives("shop", "200")
	w.Write("p.yaml", plugin("web", "type: NETWORK, url: '"+f.URL+"/away'")+named(plugin("shop", "type: NETWORK, url: '"+f.URL+"/away', failStrategy: FAIL_OPEN"), "q"))
	w.bytes("web:9000", false)
	w.bytes("shop:9001", true)
	w.Write("p.yaml", named(plugin("web", "url: '"+f.URL+"/m.wasm'"), "r")+named(plugin("shop", "url: '"+f.URL+"/m.wasm', failStrategy: FAIL_OPEN"), "s"))
	w.gives("web", "500")
	w.gives("shop", "200")
	w.told("extensions.istio.io", "WasmPlugin", "r")
	w.told("extensions.istio.io", "WasmPlugin", "s")
	// One that Envoy takes is no problem any more.
	good := module("x-wasm", "good", false)
	f.module.Store(&good)
	w.Write("p.yaml", named(plugin("web", "url: '"+f.URL+"/m.wasm', imagePullPolicy: Always"), "r"))
	w.gives("web", "200")
	envoytest.Eventually(t, stage.Patience, func() string {
		for _, p := range w.Plane().Problems() {
			if p.Code == "ProxyRejected" {
				return p.Message
			}
		}
		return ""
	})
}

// TestPluginThatCannotBeRead: an object that is no plugin refuses what it may
// have been for, unless it says that it fails open; its last good version is
// better than that.
func TestPluginThatCannotBeRead(t *testing.T) {
	f := serve(t, module("x-wasm", "a", false))
	w := start(t)
	url := "url: '" + f.URL + "/m.wasm', pluginConfig: {a: 1}"
	w.Write("p.yaml", plugin("web", url+", colour: red"))
	w.gives("web", "403")
	w.gives("shop", "200")
	w.Write("p.yaml", plugin("web", url+", colour: red, failStrategy: FAIL_OPEN"))
	w.gives("web", "200")
	w.Write("p.yaml", plugin("web", url+", colour: red, type: NETWORK"))
	w.bytes("web:9000", false)
	w.bytes("shop:9001", true)
	w.Write("p.yaml", plugin("web", url))
	w.gives("web", `200 {"a":1}`)
	w.bytes("web:9000", true)
	w.Write("p.yaml", plugin("web", "url: '"+f.URL+"/away', colour: red"))
	w.Delivered(func() {
		w.Write("q.yaml", strings.Replace(plugin("shop", "url: '"+f.URL+"/away', failStrategy: FAIL_OPEN"), "name: p,", "name: q,", 1))
	})
	w.gives("web", `200 {"a":1}`)
}

// told waits for the problem that an Envoy refuses an object's resource.
func (w *world) told(group, kind, name string) {
	w.t.Helper()
	envoytest.Eventually(w.t, stage.Patience, func() string {
		for _, p := range w.Plane().Problems() {
			if p.Code == "ProxyRejected" && p.Object == (config.Key{Group: group, Kind: kind, Namespace: "default", Name: name}) {
				return ""
			}
		}
		return "no problem is told"
	})
}

// bytes waits until a connection to a service is answered, or is closed.
func (w *world) bytes(address string, answered bool) {
	w.t.Helper()
	dial, err := w.Dialer("default/client")
	if err != nil {
		w.t.Fatal(err)
	}
	envoytest.Eventually(w.t, 2*stage.Patience, func() string {
		ctx, cancel := context.WithTimeout(w.t.Context(), stage.Patience)
		defer cancel()
		c, err := dial(ctx, "tcp", address)
		if err != nil {
			return err.Error()
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, "hi\n")
		b := make([]byte, 1)
		if n, err := c.Read(b); (n == 1) != answered {
			return fmt.Sprintf("answered %t (%v), want %t", n == 1, err, answered)
		}
		return ""
	})
}

// TestConnections: a plugin of connections, in front of bytes and of requests.
func TestConnections(t *testing.T) {
	open, closes := serve(t, module("x-wasm", "net", false)), serve(t, module("x-wasm", "net", true))
	w := start(t)
	w.Write("p.yaml", plugin("web", "type: NETWORK, url: '"+closes.URL+"/m.wasm'"))
	w.bytes("web:9000", false)
	w.bytes("shop:9001", true)
	w.gives("web", "503")
	w.Write("p.yaml", plugin("web", "type: NETWORK, url: '"+open.URL+"/m.wasm'"))
	w.bytes("web:9000", true)
	w.gives("web", "200")
}

// TestImages: a module in an image's own layer, in a file of an image's last
// layer, by digest, by tag, and from a registry that wants to know who asks.
func TestImages(t *testing.T) {
	m := module("x-wasm", "image", false)
	var asked atomic.Int64
	plain := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	r := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		if strings.Contains(q.URL.Path, "/closed") {
			if user, password, _ := q.BasicAuth(); user != "me" || password != "secret" {
				w.Header().Set("WWW-Authenticate", `Basic realm="r"`)
				http.Error(w, "who?", http.StatusUnauthorized)
				return
			}
		}
		if strings.Contains(q.URL.Path, "/blobs/") && q.Method == http.MethodGet {
			asked.Add(1)
		}
		plain.ServeHTTP(w, q)
	}))
	defer r.Close()
	host := strings.TrimPrefix(r.URL, "http://")
	artifact := push(t, host, "open/artifact", "application/vnd.module.wasm.content.layer.v1+wasm", m)
	push(t, host, "open/image", ocispec.MediaTypeImageLayerGzip, archived(t, m))
	push(t, host, "closed/image", ocispec.MediaTypeImageLayerGzip, archived(t, m))

	w := start(t)
	auths := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, base64.StdEncoding.EncodeToString([]byte("me:secret")))
	secret := "apiVersion: v1\nkind: Secret\nmetadata: {name: pull, namespace: default}\ntype: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: '" + auths + "'}\n---\n"
	for i, c := range []struct{ spec, want string }{
		{"url: 'oci://" + host + "/open/artifact@" + artifact + "'", "200"},
		{"url: '" + host + "/open/image:v1'", "200"},
		{"url: 'oci://" + host + "/closed/image:v1', imagePullSecret: pull", "200"},
	} {
		w.Write("p.yaml", secret+plugin("web", fmt.Sprintf("%s, pluginConfig: {'n': %d}", c.spec, i)))
		w.gives("web", fmt.Sprintf(`%s {"n":%d}`, c.want, i))
	}
	if asked.Load() == 0 {
		t.Error("no blob was asked for")
	}
	// Without credentials, and with another digest: nothing new comes.
	for _, spec := range []string{
		"url: 'oci://" + host + "/closed/image:v1', imagePullPolicy: Always",
		"url: 'oci://" + host + "/open/image:v1', sha256: '" + strings.Repeat("1", 64) + "'",
	} {
		w.Write("p.yaml", plugin("shop", spec))
		w.gives("shop", "403")
	}
}

// push puts an image of one layer into a registry.
func push(t *testing.T, host, image, mediaType string, layer []byte) (digest string) {
	t.Helper()
	repo, err := remote.NewRepository(host + "/" + image)
	if err != nil {
		t.Fatal(err)
	}
	repo.PlainHTTP = true
	repo.Client = &auth.Client{Client: http.DefaultClient, Credential: auth.StaticCredential(host, auth.Credential{Username: "me", Password: "secret"})}
	d := content.NewDescriptorFromBytes(mediaType, layer)
	if err := repo.Push(t.Context(), d, bytes.NewReader(layer)); err != nil {
		t.Fatal(err)
	}
	m, err := oras.PackManifest(t.Context(), repo, oras.PackManifestVersion1_1, "application/vnd.module.wasm.config.v1+json", oras.PackManifestOptions{Layers: []ocispec.Descriptor{d}})
	if err == nil {
		err = repo.Tag(t.Context(), m, "v1")
	}
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest.String()
}

// archived is a module as the file of a layer, compressed.
func archived(t *testing.T, m []byte) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	err := w.WriteHeader(&tar.Header{Name: "plugin.wasm", Mode: 0o644, Size: int64(len(m))})
	if err == nil {
		_, err = w.Write(m)
	}
	if err := errors.Join(err, w.Close(), z.Close()); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestLua: a script is Envoy's own matter; one that is no Lua refuses requests
// and leaves the rest of the proxy alone.
func TestLua(t *testing.T) {
	w := start(t)
	script := func(code string) string {
		return "apiVersion: extensions.istio.io/v1alpha1\nkind: TrafficExtension\nmetadata: {name: s, namespace: default}\nspec: {selector: {matchLabels: {app: web}}, match: [{mode: SERVER}], lua: {inlineCode: \"" + code + "\"}}\n"
	}
	w.Write("s.yaml", script("function envoy_on_response(h) h:headers():add('x-wasm', 'lua') end"))
	w.gives("web", "200 lua")
	w.Write("s.yaml", script("function envoy_on_response(h h:headers() end"))
	w.told("extensions.istio.io", "TrafficExtension", "s")
	w.gives("web", "200 lua") // the last good one
	w.bytes("web:9000", true)
}
