package translate_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// TestDrawnServiceEntries: whatever ServiceEntries, WorkloadEntries and
// WorkloadGroups pass their checks, among pods and each other, a real Envoy
// takes the clusters, assignments and listeners that they make.
func TestDrawnServiceEntries(t *testing.T) {
	envoy := envoytest.Binary(t)
	meshes := 60
	if testing.Short() {
		meshes = 10
	}
	var clusters []any
	var listeners []json.RawMessage
	taken := 0
	for seed := range meshes {
		d := drawn{rand.New(rand.NewPCG(uint64(seed), 13))}
		store, passed := d.entries(t)
		taken += passed
		m := store.Mesh()
		ix := translate.NewIndex(m)
		ix.Problems()
		tr := translate.NewTranslator(1000)
		for i, p := range d.proxies() {
			// One description of a DNS cache for all, which has the family in it.
			p.IPs = []string{"10.1.0.1"}
			clusters = append(clusters, drawnClusters(t, ix, m, p, len(clusters))...)
			listeners = append(listeners, takeListeners(t, fmt.Sprintf("%d/%d", seed, i), ix, tr, p, len(listeners))...)
		}
	}
	if drawnObjects := meshes * 3 * drawnEntries; taken < drawnObjects*3/4 {
		t.Errorf("only %d objects of %d passed their checks", taken, drawnObjects)
	}
	if len(clusters) < 10*meshes || len(listeners) < 3*meshes {
		t.Errorf("only %d clusters and %d listeners of %d meshes", len(clusters), len(listeners), meshes)
	}
	t.Logf("%d objects, %d clusters, %d listeners", taken, len(clusters), len(listeners))
	takenByEnvoy(t, clusters)
	path := filepath.Join(t.TempDir(), "bootstrap.json")
	if err := os.WriteFile(path, bootstrapWith(t, listeners), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(envoy, "--mode", "validate", "-c", path, "--log-level", "error").CombinedOutput(); err != nil {
		t.Errorf("of %d listeners Envoy refuses: %v\n%s", len(listeners), err, out)
	}
}

// drawnEntries is how many objects of each kind a mesh gets.
const drawnEntries = 8

// entries draws objects that pass their checks into a store that has those of
// around, and says how many.
func (d drawn) entries(t *testing.T) (store *discovery.Store, passed int) {
	t.Helper()
	store = discovery.NewStore(translate.Check, "drawn")
	objects, problems := file.Parse("around.yaml", []byte(around))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	add := func(kind string, i int, draw func() proto.Message) {
		meta := config.Meta{
			Key:     config.Key{Group: discovery.NetworkingGroup, Kind: kind, Namespace: pick(d, "default", "default", "other"), Name: fmt.Sprint("drawn", i)},
			Version: "v1",
		}
		for range 10 { // until one passes
			spec := draw()
			faulty := slices.ContainsFunc(translate.Check(&meta, spec), func(p config.Problem) bool { return p.Severity == config.Error })
			if !faulty {
				passed++
				objects = append(objects, discovery.Object{Meta: meta, Body: spec})
				return
			}
		}
	}
	for i := range drawnEntries {
		add("ServiceEntry", i, func() proto.Message { return d.serviceEntry() })
		add("WorkloadEntry", i, func() proto.Message { return d.workloadEntry() })
		add("WorkloadGroup", i, func() proto.Message { return d.workloadGroup() })
	}
	for _, o := range objects {
		store.Apply("drawn", []discovery.Change{{Object: o}})
	}
	store.Synced("drawn")
	return store, passed
}

func (d drawn) serviceEntry() *networking.ServiceEntry {
	se := &networking.ServiceEntry{
		Hosts:      d.names(3),
		Addresses:  pick(d, nil, nil, []string{"10.0.0.1"}, []string{"10.2.0.0/16", "fd00::/8"}, []string{"240.1.1.1"}, []string{"10.2.3.4/16", "::1"}, []string{d.text()}),
		Location:   networking.ServiceEntry_Location(d.IntN(2)),
		Resolution: networking.ServiceEntry_Resolution(d.IntN(len(networking.ServiceEntry_Resolution_name))),
		ExportTo:   pick(d, nil, nil, []string{"."}, []string{"*"}, []string{"other"}, []string{"~"}),
		SubjectAltNames: pick(d, nil, nil, []string{"spiffe://cluster.local/ns/a/sa/b"},
			[]string{d.text()}),
	}
	for i := range 1 + d.IntN(3) {
		se.Ports = append(se.Ports, &networking.ServicePort{
			Number: d.port(), Name: fmt.Sprint(pick(d, "http", "tcp", "p"), i), TargetPort: pick[uint32](d, 0, 0, 8080, 70000),
			Protocol: pick(d, "HTTP", "HTTP", "HTTP2", "GRPC", "TCP", "TCP", "TLS", "HTTPS", "MONGO", "", "UDP", "NOPE"),
		})
	}
	switch d.IntN(4) {
	case 0:
		se.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{"app": pick(d, "a", "b")}}
	case 1:
	default:
		for range 1 + d.IntN(3) {
			se.Endpoints = append(se.Endpoints, d.workloadEntry())
		}
	}
	return se
}

func (d drawn) workloadGroup() *networking.WorkloadGroup {
	return &networking.WorkloadGroup{
		Metadata: &networking.WorkloadGroup_ObjectMeta{Labels: map[string]string{"app": pick(d, "a", "b")}},
		Template: d.workloadEntry(),
	}
}

func (d drawn) workloadEntry() *networking.WorkloadEntry {
	return &networking.WorkloadEntry{
		Address: pick(d, "10.1.0.7", "10.1.0.8", "fd00::9", "name.test", "other.test", "unix:///tmp/x", "", d.text()),
		Ports:   pick(d, nil, nil, map[string]uint32{"http0": 8081}, map[string]uint32{"tcp1": 1, "p0": 65535}, map[string]uint32{"http0": 0}),
		Labels: pick(d, nil, map[string]string{"app": "a"}, map[string]string{"app": "b", "version": "v1"},
			map[string]string{"app": "a", "istio-locality": "a.b.c"}),
		Network:        pick(d, "", "", "n"),
		Locality:       pick(d, "", "", "a", "a/b", "a/b/c", "/", d.text()),
		Weight:         pick[uint32](d, 0, 0, 1, 7, 100, 4294967295),
		ServiceAccount: pick(d, "", "s", d.text()),
	}
}
