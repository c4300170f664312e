package inject

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/protojson"
	networkingv1beta1 "istio.io/api/networking/v1beta1"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/config"
)

var update = flag.Bool("update", false, "write the cases' output sections anew")

// TestCases injects the pods of testdata/*.txtar. The sections of a case:
//
//	pod.yaml           the pod, of namespace "shop" unless it says otherwise
//	mesh.yaml          MeshConfig
//	injector.yaml      key config of the ConfigMap istio-sidecar-injector
//	values.yaml        its key values
//	proxyconfigs.yaml  ProxyConfigs
//	options.yaml       revision, native, oldestKubelet, env
//
// What is compared: "out A B C" is the value at that path of the injected pod,
// where lists are walked by their elements' names; "skipped", "error" and
// "warnings" are the result's.
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) { runCase(t, file) })
	}
}

func runCase(t *testing.T, file string) {
	a, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	c := readCase(t, a)
	got := c.run(t)
	for i, f := range a.Files {
		if filepath.Ext(f.Name) == ".yaml" {
			continue
		}
		actual := got.section(t, f.Name)
		if *update {
			a.Files[i].Data = []byte(actual)
			continue
		}
		if d := cmp.Diff(string(f.Data), actual); d != "" {
			t.Errorf("%s (-want +got):\n%s", f.Name, d)
		}
	}
	if *update {
		if err := os.WriteFile(file, txtar.Format(a), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

type injectionCase struct {
	mesh     *config.Mesh
	injector map[string]string
	options  Options
	request  Request
}

type caseResult struct {
	result *Result
	err    error
}

func readCase(t *testing.T, a *txtar.Archive) *injectionCase {
	t.Helper()
	c := &injectionCase{injector: map[string]string{}, options: Options{Native: NativeTrue}, request: Request{Namespace: "shop"}}
	b := config.NewBuilder(nil)
	var err error
	kubelet := 0
	for _, f := range a.Files {
		text := string(f.Data)
		switch f.Name {
		case "pod.yaml":
			c.request.Pod, err = readYAML(f.Data)
		case "mesh.yaml":
			var unknown []string
			mc, unknown, merr := config.ParseMeshConfig(text)
			if err = merr; err == nil && len(unknown) > 0 {
				t.Fatal(unknown)
			}
			b.SetSettings(config.NewSettings(config.Meta{}, mc, "cluster.local"))
		case "injector.yaml":
			c.injector["config"] = text
		case "values.yaml":
			c.injector["values"] = text
		case "proxyconfigs.yaml":
			readProxyConfigs(t, b, text)
		case "options.yaml":
			var o struct {
				Revision, Native string
				OldestKubelet    int
				Env              map[string]string
			}
			err = yaml.UnmarshalStrict(f.Data, &o)
			c.options.Revision, c.request.Env, kubelet = o.Revision, o.Env, o.OldestKubelet
			if o.Native != "" {
				c.options.Native = Native(o.Native)
			}
		}
		if err != nil {
			t.Fatalf("%s: %v", f.Name, err)
		}
	}
	if meta, ok := c.request.Pod["metadata"].(Object); ok && text(meta, "namespace") != "" {
		c.request.Namespace = text(meta, "namespace")
	}
	c.mesh = b.Mesh()
	c.mesh.OldestKubelet = kubelet
	return c
}

func readProxyConfigs(t *testing.T, b *config.Builder, text string) {
	t.Helper()
	for _, doc := range strings.Split(text, "\n---\n") {
		var o struct {
			Metadata struct{ Name, Namespace string }
			Spec     map[string]any
		}
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		js, err := yaml.Marshal(o.Spec)
		if err != nil {
			t.Fatal(err)
		}
		if js, err = yaml.YAMLToJSON(js); err != nil {
			t.Fatal(err)
		}
		spec := &networkingv1beta1.ProxyConfig{}
		if err := protojson.Unmarshal(js, spec); err != nil {
			t.Fatal(err)
		}
		pc := &config.ProxyConfig{Spec: spec}
		pc.Kind, pc.Namespace, pc.Name = "ProxyConfig", o.Metadata.Namespace, o.Metadata.Name
		config.Put(b, func(m *config.Mesh) *config.Index[*config.ProxyConfig] { return &m.ProxyConfigs }, pc)
	}
}

// run injects the pod, and once more what came out: that must change nothing.
func (c *injectionCase) run(t *testing.T) *caseResult {
	t.Helper()
	settings, err := ParseSettings(c.injector, "")
	if err != nil {
		return &caseResult{err: err}
	}
	in := New(c.mesh, settings, c.options)
	before := clone(c.request.Pod)
	got, err := in.Inject(&c.request)
	if d := cmp.Diff(before, c.request.Pod); d != "" {
		t.Errorf("the pod that was given has changed:\n%s", d)
	}
	if err != nil || got.Skipped != "" {
		return &caseResult{got, err}
	}
	again := c.request
	again.Pod = got.Pod
	second, err := in.Inject(&again)
	if err != nil {
		t.Fatalf("the second injection: %v", err)
	}
	if d := cmp.Diff(got.Pod, second.Pod); d != "" {
		t.Errorf("the second injection (-first +second):\n%s", d)
	}
	return &caseResult{got, nil}
}

func (r *caseResult) section(t *testing.T, name string) string {
	t.Helper()
	if name == "error" {
		if r.err == nil {
			return "none\n"
		}
		return r.err.Error() + "\n"
	}
	if r.err != nil {
		t.Fatalf("%s: %v", name, r.err)
	}
	switch name {
	case "skipped":
		return r.result.Skipped + "\n"
	case "warnings":
		return strings.Join(r.result.Warnings, "\n") + "\n"
	}
	path, ok := strings.CutPrefix(name, "out")
	if !ok {
		t.Fatalf("unknown section %q", name)
	}
	var v any = r.result.Pod
	for _, step := range strings.Fields(path) {
		switch at := v.(type) {
		case Object:
			v = at[step]
		case []any:
			v = any(named(objects(Object{"": at}, ""), step))
		default:
			v = nil
		}
		if o, ok := v.(Object); ok && o == nil {
			v = nil
		}
	}
	b, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
