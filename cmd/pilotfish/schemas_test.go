package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The reports for code scanning are what the standard's own schema asks for.
func TestSARIFSchema(t *testing.T) {
	schema := schemaIn(t, "testdata/schemas/sarif-2.1.0.json")
	for _, args := range [][]string{
		{"lint", "testdata/lint"},
		{"lint", "testdata/lint", "--all"},
		{"lint", "testdata/lint-envoy", "--envoy", envoytest.Binary(t)},
		{"lint", "../../examples/bookstore"}, // nothing is found
		{"test", "testdata/tests"},
		{"test", "testdata/tests-broken"},
		{"test", "../../examples/bookstore"},
		{"diff", shop, changed(t, "timeout: 3s", "timeout: 1s")},
		{"diff", shop, shop},
	} {
		_, stdout, _ := run(append(args, "-o", "sarif")...)
		if err := matches(schema, stdout); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
	// The schema tells wrong ones apart.
	_, stdout, _ := run("lint", "-o", "sarif", "--all", "testdata/lint")
	for _, change := range [][2]string{
		{`"level": "warning"`, `"level": "bad"`}, {`"startLine": `, `"startLine": -`}, {`"kind": "`, `"kind": "x`}, {`"results"`, `"result"`},
	} {
		wrong := strings.ReplaceAll(stdout, change[0], change[1])
		if wrong == stdout {
			t.Errorf("there is no %s in\n%s", change[0], stdout)
		}
		if matches(schema, wrong) == nil {
			t.Errorf("the schema takes %s", change[1])
		}
	}
}

func schemaIn(t *testing.T, file string) *jsonschema.Schema {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(b)))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(file, doc); err != nil {
		t.Fatal(err)
	}
	schema, err := c.Compile(file)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func matches(schema *jsonschema.Schema, text string) error {
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return schema.Validate(doc)
}

// The schema for editors takes the test files that the command takes, and none
// that it refuses.
func TestTestFileSchema(t *testing.T) {
	schema := schemaIn(t, "../../docs/schemas/mesh-test.json")
	var files []string
	for _, pattern := range []string{"../../examples/*/*_test.yaml", "testdata/tests/*_test.yaml", "testdata/annotate/*_test.yaml", "testdata/bad-input/shop/*_test.yaml"} {
		found, err := filepath.Glob(pattern)
		if err != nil || len(found) == 0 {
			t.Fatalf("no %s, %v", pattern, err)
		}
		files = append(files, found...)
	}
	asJSON := func(text []byte) string {
		t.Helper()
		js, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatal(err)
		}
		return string(js)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := matches(schema, asJSON(text)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	const good = `tests:
- name: a
  from: {workload: web, namespace: shop}
  request: {url: "http://reviews/api", headers: {x-user: qa}, jwt: {sub: alice}}
  expect: {route: reviews/qa, to: {v2: 100}, authz: allow, mtls: strict, retries: 2, timeout: 3s}
- name: b
  forall: {from: {namespace: public}, to: {namespace: pci}}
  expect: {authz: deny}
`
	if err := matches(schema, asJSON([]byte(good))); err != nil {
		t.Error(err)
	}
	for _, change := range [][2]string{
		{"workload:", "worklod:"}, {"url:", "urll:"}, {"route:", "rout:"}, {"authz: allow", "authz: perhaps"}, {"mtls: strict", "mtls: maybe"},
		{"retries: 2", "retries: two"}, {"v2: 100", "v2: all"}, {"forall:", "for_all:"}, {"tests:", "test:"}, {"name: a", "nam: a"},
	} {
		wrong := strings.Replace(good, change[0], change[1], 1)
		file := filepath.Join(t.TempDir(), "wrong_test.yaml")
		if err := os.WriteFile(file, []byte(wrong), 0o600); err != nil {
			t.Fatal(err)
		}
		code, stdout, stderr := run("test", file, "--config", shop)
		if matches(schema, asJSON([]byte(wrong))) == nil || code != exitUsage {
			t.Errorf("%s: the schema says %v, the command ends with %d: %s%s", change[1], matches(schema, asJSON([]byte(wrong))), code, stdout, stderr)
		}
	}
}
