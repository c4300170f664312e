package main

import (
	"os"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
)

// The reports for code scanning are what the standard's own schema asks for.
func TestLintSARIFSchema(t *testing.T) {
	schema := schemaIn(t, "testdata/schemas/sarif-2.1.0.json")
	for _, args := range [][]string{
		{"testdata/lint"},
		{"testdata/lint", "--all"},
		{"testdata/lint-envoy", "--envoy", envoytest.Binary(t)},
		{"../../examples/bookstore"}, // nothing is found
	} {
		_, stdout, stderr := run(append([]string{"lint", "-o", "sarif"}, args...)...)
		if err := matches(schema, stdout); err != nil || stderr != "" {
			t.Errorf("%v: %v\n%s", args, err, stderr)
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
