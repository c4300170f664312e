package simulate_test

import (
	"fmt"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

func worldOf(t *testing.T, path string) *simulate.World {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	store := discovery.NewStore(translate.Check, file.Name)
	given := map[config.Key]string{}
	addresses := func(pod config.Key, _ map[string]string) []string {
		if given[pod] == "" {
			given[pod] = fmt.Sprint("10.1.0.", len(given)+1)
		}
		return []string{given[pod]}
	}
	changes, problems := file.Objects([]file.Text{{Name: path, Data: data}}, addresses, translate.Check)
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	store.Replace(file.Name, changes, problems)
	store.Synced(file.Name)
	return simulate.NewWorld(store.Mesh())
}

var sourceType = reflect.TypeFor[*simulate.Source]()

// undecided are the types of an Answer that no object decides by themselves:
// what holds decisions, and the parts of one.
var undecided = map[string]bool{"Answer": true, "Span": true, "Source": true, "Key": true}

// decisions are the fields of answers that name what decided, found in the types.
func decisions(typ reflect.Type, out map[string]bool, seen map[reflect.Type]bool) (without []string) {
	switch typ.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return decisions(typ.Elem(), out, seen)
	case reflect.Struct:
	default:
		return nil
	}
	if seen[typ] {
		return nil
	}
	seen[typ] = true
	found := false
	for i := range typ.NumField() {
		f := typ.Field(i)
		if !f.IsExported() {
			continue
		}
		if f.Type == sourceType || f.Type == reflect.SliceOf(sourceType) {
			found, out[typ.Name()+"."+f.Name] = true, true
			continue
		}
		without = append(without, decisions(f.Type, out, seen)...)
	}
	if !found && !undecided[typ.Name()] {
		without = append(without, typ.Name())
	}
	return without
}

// mayBeDefault are decisions that nobody need make.
var mayBeDefault = map[string]bool{
	"Hop.Sidecar": true, "Hop.Patched": true, "Hop.TimeoutSource": true, "Hop.Peers": true, "Destination.BalanceSource": true,
	"Security.Source": true, "Passed.Source": true, "Sent.Source": true, "Result.Source": true, "Reply.Source": true,
}

// placed collects which decisions name object, file and line.
func placed(t *testing.T, at string, v reflect.Value, out map[string]int) {
	t.Helper()
	switch v.Kind() {
	case reflect.Pointer:
		if !v.IsNil() {
			placed(t, at, v.Elem(), out)
		}
	case reflect.Slice:
		for i := range v.Len() {
			placed(t, fmt.Sprintf("%s[%d]", at, i), v.Index(i), out)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if !f.IsExported() {
				continue
			}
			name := v.Type().Name() + "." + f.Name
			if f.Type != sourceType {
				placed(t, at+"."+f.Name, v.Field(i), out)
				continue
			}
			s, _ := v.Field(i).Interface().(*simulate.Source)
			switch {
			case s != nil && s.Object.Name != "" && s.File != "" && s.Line > 0:
				out[name]++
			case s != nil || !mayBeDefault[name] && !chosenByNone(v):
				t.Errorf("%s%s: %v names no object, file and line", at, f.Name, s)
			}
			if s != nil {
				out["by "+s.Object.Kind]++
			}
		}
		if v.Type() == reflect.TypeFor[simulate.Hop]() {
			out["Hop.Patched"] += v.FieldByName("Patched").Len()
		}
	}
}

// chosenByNone is a decision that says that nothing was chosen.
func chosenByNone(v reflect.Value) bool {
	d, ok := v.Interface().(simulate.Decision)
	return ok && d.Name == ""
}

// TestProvenance asks what makes every kind of decision, and wants of each the
// object, file and line that made it.
func TestProvenance(t *testing.T) {
	w := worldOf(t, "testdata/provenance.yaml")
	got := map[string]int{}
	for _, q := range []simulate.Query{
		{From: "client.a", URL: "http://one/api/x"},
		{From: "client.a", URL: "http://one/api/x", Claims: map[string]any{"iss": "iss-a", "aud": "aud-1"}},
		{From: "client.a", URL: "http://one/stubborn"},
		{From: "client.a", URL: "http://one/moved"},
		{From: "client.a", URL: "http://one/rest"},
		{From: "client.a", URL: "http://nowhere.example.com/"},
		{From: "client.a", URL: "tcp://one:9000"},
		{From: "plain/a", URL: "tcp://one:9000"},
		{From: "gateway/a/gw", URL: "http://shop.example.com/api/x"},
		{From: "gateway/a/gw", URL: "http://shop.example.com/moved"},
	} {
		a, err := w.Ask(&q)
		if err != nil {
			t.Fatal(err)
		}
		placed(t, q.From+" "+q.URL+" ", reflect.ValueOf(a), got)
	}
	all := map[string]bool{}
	for _, name := range decisions(reflect.TypeFor[simulate.Answer](), all, map[reflect.Type]bool{}) {
		t.Errorf("a %s says nowhere what decided it", name)
	}
	for name := range all {
		if got[name] == 0 {
			t.Errorf("no answer had a %s", name)
		}
	}
	for _, kind := range []string{
		"Service", "Deployment", "ConfigMap", "VirtualService", "DestinationRule", "Gateway", "Sidecar", "PeerAuthentication",
		"RequestAuthentication", "AuthorizationPolicy", "EnvoyFilter", "WasmPlugin",
	} {
		if got["by "+kind] == 0 {
			t.Errorf("nothing was decided by a %s", kind)
		}
	}
}

// TestTokenVerdicts: what becomes of a token, and which line says so.
func TestTokenVerdicts(t *testing.T) {
	w := worldOf(t, "testdata/provenance.yaml")
	text, err := os.ReadFile("testdata/provenance.yaml")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for name, c := range map[string]struct {
		claims map[string]any
		header simulate.Header
		status int
		why    string
		line   string // what stands there
	}{
		"missing":      {nil, nil, 0, "no token is needed", "- issuer: iss-a"},
		"good":         {map[string]any{"iss": "iss-b"}, nil, 0, "the token is accepted", "- issuer: iss-b"},
		"wrong issuer": {map[string]any{"iss": "iss-c"}, nil, 401, "issuer iss-c is not iss-a", "- issuer: iss-a"},
		"expired":      {map[string]any{"iss": "iss-b", "exp": 1000000000.0}, nil, 401, "it expired at 2001-09-09T01:46:40Z", "- issuer: iss-b"},
		"not yet":      {map[string]any{"iss": "iss-b", "nbf": 99999999999.0}, nil, 401, "it is not valid before", "- issuer: iss-b"},
		"no time":      {map[string]any{"iss": "iss-b", "exp": "soon"}, nil, 401, "claim exp soon is no time", "- issuer: iss-b"},
		"audience":     {map[string]any{"iss": "iss-a", "aud": "aud-2"}, nil, 403, "audience aud-2 is not one of aud-1", "audiences: [aud-1]"},
		"junk":         {nil, simulate.Header{{Name: "authorization", Value: "Bearer junk"}}, 401, "what is there is no token", "- issuer: iss-a"},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := w.Ask(&simulate.Query{From: "client.a", URL: "http://one/rest", Claims: c.claims, Header: c.header})
			if err != nil {
				t.Fatal(err)
			}
			server := a.Hop.To[0].Endpoints[0].Server
			status := 0
			if server.Reply != nil {
				status = server.Reply.Status
			}
			for i := range server.Filters {
				v := &server.Filters[i]
				if v.Filter != "envoy.filters.http.jwt_authn" {
					continue
				}
				if status != c.status || !strings.Contains(v.Why, c.why) {
					t.Errorf("status %d, %q; want %d, %q", status, v.Why, c.status, c.why)
				}
				if v.Source == nil || v.Source.Object.Kind != "RequestAuthentication" || strings.TrimSpace(lines[v.Source.Line-1]) != c.line {
					t.Errorf("decided by %v, want the line %q", v.Source, c.line)
				}
				if status != 0 && (server.Reply.Source == nil || server.Reply.Source.String() != v.Source.String()) {
					t.Errorf("answered because of %v, want %v", server.Reply.Source, v.Source)
				}
				return
			}
			t.Errorf("no verdict about the token: %+v", server.Filters)
		})
	}
}
