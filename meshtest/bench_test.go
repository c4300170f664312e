package meshtest_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery/inputs"
	widemesh "github.com/pilotfish-mesh/pilotfish/e2e/wide"
	"github.com/pilotfish-mesh/pilotfish/meshtest"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// wide is the mesh of package wide in a folder of its own.
func wide(b *testing.B, timeout string) string {
	b.Helper()
	dir := b.TempDir()
	if err := widemesh.Write(dir, timeout); err != nil {
		b.Fatal(err)
	}
	return dir
}

func load(b *testing.B, dir string) *config.Mesh {
	b.Helper()
	m, err := inputs.Load(context.Background(), inputs.Options{Paths: []string{dir}, Validate: translate.Check})
	if err != nil || m.VirtualServices.Len() != 1000 {
		b.Fatal(err)
	}
	return m
}

// BenchmarkAskCold reads 4,000 documents and answers one question.
func BenchmarkAskCold(b *testing.B) {
	dir := wide(b, "3s")
	b.ReportAllocs()
	for b.Loop() {
		a, err := simulate.NewWorld(load(b, dir)).Ask(&simulate.Query{From: "s1-1.ns-1", URL: "http://s7.ns-7/"})
		if err != nil || a.Hop.Route.Name != "all" {
			b.Fatal(err)
		}
	}
}

// BenchmarkTest10000 reads 4,000 documents and runs 10,000 cases.
func BenchmarkTest10000(b *testing.B) {
	dir := wide(b, "3s")
	var text strings.Builder
	text.WriteString("tests:\n")
	for i := range 10_000 {
		n, from, user, route := i%1000, i*7%1000, "jo", "all"
		if i%2 == 1 {
			user, route = "qa", "qa"
		}
		fmt.Fprintf(&text, "- {name: t%d, from: {workload: s%d-1, namespace: ns-%d}, request: {url: 'http://s%d.ns-%d/', headers: {x-user: %s}}, expect: {route: %s, status: 200}}\n",
			i, from, from%20, n, n%20, user, route)
	}
	b.ReportAllocs()
	for b.Loop() {
		file, problems := meshtest.Parse("big_test.yaml", []byte(text.String()))
		w := simulate.NewWorld(load(b, dir))
		for _, r := range meshtest.Run(meshtest.Simulator{World: w}, w, file.Cases, nil) {
			if !r.Passed() || len(problems) > 0 {
				b.Fatal(r.Case.Name, r.Failed, r.Err, problems)
			}
		}
	}
}

// BenchmarkDiff reads two meshes of 4,000 documents, one line of which
// differs, and compares them.
func BenchmarkDiff(b *testing.B) {
	before, after := wide(b, "3s"), wide(b, "2s")
	bare := func(dir string) *config.Mesh {
		m, err := inputs.LoadBare(context.Background(), inputs.Options{Paths: []string{dir}, Validate: translate.Check})
		if err != nil {
			b.Fatal(err)
		}
		return m.Mesh
	}
	b.ReportAllocs()
	for b.Loop() {
		old := simulate.NewWorld(bare(before))
		if d := meshtest.Diff(old, old.With(bare(after))); len(d.Requests) != 1 || len(d.Objects) != 1 {
			b.Fatalf("%+v", d.Requests)
		}
	}
}

// BenchmarkLint reads 4,000 documents and lints them.
func BenchmarkLint(b *testing.B) {
	dir := wide(b, "3s")
	b.ReportAllocs()
	for b.Loop() {
		if found := meshtest.Lint(simulate.NewWorld(load(b, dir))); len(found) != 0 {
			b.Fatal(found[0])
		}
	}
}
