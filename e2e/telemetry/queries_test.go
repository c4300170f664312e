package telemetry

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/pilotfish-mesh/pilotfish/e2e/promtest"
)

const chartFiles = "../../manifests/chart/files"

// panel is what of a Grafana dashboard's panels queries go to.
type panel struct {
	Title   string
	Type    string
	Targets []struct {
		Expr       string
		Datasource struct{ UID string }
	}
	Panels      []panel
	FieldConfig struct{ Defaults struct{ Unit string } }
}

type board struct {
	UID, Title    string
	SchemaVersion int
	Panels        []panel
	Templating    struct {
		List []struct {
			Name, Type string
			Query      json.RawMessage
			AllValue   string
			IncludeAll bool
		}
	}
}

func readBoard(t *testing.T, file string) *board {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	out := &board{}
	if err := json.Unmarshal(b, out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

// each calls f for the panels, those of rows too.
func (b *board) each(f func(p *panel)) {
	var walk func([]panel)
	walk = func(list []panel) {
		for i := range list {
			f(&list[i])
			walk(list[i].Panels)
		}
	}
	walk(b.Panels)
}

// rules are a file of Prometheus' rules.
type rules struct {
	Groups []struct {
		Name  string           `json:"name"`
		Rules []map[string]any `json:"rules"`
	} `json:"groups"`
}

func readRules(t *testing.T) *rules {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chartFiles, "prometheus", "rules.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	out := &rules{}
	if err := yaml.Unmarshal(b, out); err != nil {
		t.Fatal(err)
	}
	return out
}

// names of the rules of a sort: record or alert.
func (r *rules) names(sort string) []string {
	var out []string
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			if name, ok := rule[sort].(string); ok {
				out = append(out, name)
			}
		}
	}
	return out
}

// atOnce writes the rules without what they wait for.
func (r *rules) atOnce(t *testing.T) (file string) {
	t.Helper()
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			delete(rule, "for")
		}
	}
	b, err := yaml.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// sample is one of a query's answers.
type sample struct {
	Metric map[string]string
	Value  [2]any
}

func (s *sample) number() float64 {
	text, _ := s.Value[1].(string)
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return math.NaN()
	}
	return v
}

type prometheus struct{ *promtest.Server }

// query answers an expression as it is now.
func (p prometheus) query(expr string) ([]sample, error) {
	resp, err := http.PostForm(p.URL+"/api/v1/query", url.Values{"query": {expr}})
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	var a struct {
		Error string
		Data  struct {
			ResultType string
			Result     json.RawMessage
		}
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return nil, fmt.Errorf("%s: %w", expr, err)
	}
	var out []sample
	if a.Data.ResultType != "vector" {
		return nil, fmt.Errorf("%s: %s %s", expr, a.Data.ResultType, a.Error)
	}
	return out, json.Unmarshal(a.Data.Result, &out)
}

// lacks says why a query has no data; empty if it has: a number among its
// values.
func (p prometheus) lacks(expr string) string {
	got, err := p.query(expr)
	if err != nil {
		return err.Error()
	}
	for _, s := range got {
		if !math.IsNaN(s.number()) {
			return ""
		}
	}
	return fmt.Sprintf("no data (%d series without a number): %s", len(got), expr)
}

var (
	labelValues = regexp.MustCompile(`^label_values\((.+), *(\w+)\)$`)
	queryResult = regexp.MustCompile(`^query_result\((.+)\)$`)
	anyVariable = regexp.MustCompile(`\$\{?[a-z]\w*`)
)

// fill puts values in the place of a dashboard's variables.
func fill(expr string, values map[string]string) string {
	for _, name := range []string{"$__rate_interval", "$__interval", "$__range"} {
		expr = strings.ReplaceAll(expr, name, "10s")
	}
	for name, v := range values {
		expr = regexp.MustCompile(`\$(\{`+name+`(:\w+)?\}|`+name+`\b)`).ReplaceAllLiteralString(expr, v)
	}
	return expr
}

// variables are the values of a dashboard's variables: those that are wished,
// if they are offered, or all; else the first one that is offered.
func (p prometheus) variables(b *board, wished map[string]string) (values map[string]string, problem string) {
	values = map[string]string{}
	for _, v := range b.Templating.List {
		if v.Type == "custom" || v.Type == "datasource" {
			values[v.Name] = wished[v.Name]
			continue
		}
		var text string
		if json.Unmarshal(v.Query, &text) != nil {
			var q struct{ Query string }
			_ = json.Unmarshal(v.Query, &q)
			text = q.Query
		}
		text = fill(text, values)
		label := ""
		if m := labelValues.FindStringSubmatch(text); m != nil {
			text, label = "group by ("+m[2]+") ("+m[1]+")", m[2]
		} else if m := queryResult.FindStringSubmatch(text); m != nil {
			text = m[1]
		}
		got, err := p.query(text)
		if err != nil {
			return nil, err.Error()
		}
		var offered []string
		for _, s := range got {
			for k, value := range s.Metric {
				if label == "" || k == label {
					offered = append(offered, value)
				}
			}
		}
		if len(offered) == 0 {
			return nil, "variable " + v.Name + " has no values: " + text
		}
		values[v.Name] = offered[0]
		for _, o := range offered {
			if o == wished[v.Name] {
				values[v.Name] = o
			}
		}
		if v.IncludeAll {
			values[v.Name] = v.AllValue
			if v.AllValue == "" {
				values[v.Name] = strings.Join(offered, "|")
			}
		}
	}
	return values, ""
}
