package snapshot

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discovery "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	rpc "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// FuzzRequest compares decoding with the protobuf library's, for both
// protocols.
func FuzzRequest(f *testing.F) {
	for _, m := range []proto.Message{
		&discovery.DeltaDiscoveryRequest{
			Node: &core.Node{Id: "sidecar~1~a.b~c"}, TypeUrl: "t", ResponseNonce: "3",
			ResourceNamesSubscribe: []string{"a", "b", ""}, ResourceNamesUnsubscribe: []string{"c"},
			InitialResourceVersions: map[string]string{"x": "1", "y": "2", "": ""},
			ErrorDetail:             &rpc.Status{Code: 3, Message: "no"},
		},
		&discovery.DiscoveryRequest{
			Node: &core.Node{Id: "sidecar~1~a.b~c"}, TypeUrl: "t", ResponseNonce: "3", VersionInfo: "v",
			ResourceNames: []string{"a", "b"}, ErrorDetail: &rpc.Status{Code: 3, Message: "no"},
			ResourceLocators: []*discovery.ResourceLocator{{Name: "l"}},
		},
		&discovery.DeltaDiscoveryRequest{}, &discovery.DiscoveryRequest{TypeUrl: "\u00e9"},
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Add([]byte{8, 1, 26, 1, 'a'})
	f.Add([]byte{26, 1, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		var d discovery.DeltaDiscoveryRequest
		if proto.Unmarshal(b, &d) == nil {
			compare(t, delta, b, request{
				node: d.Node, url: d.TypeUrl, nonce: d.ResponseNonce, err: d.ErrorDetail,
				names: d.ResourceNamesSubscribe, unsubscribe: d.ResourceNamesUnsubscribe,
			}, d.InitialResourceVersions)
		} else {
			_ = decodeRequest(delta, mem.BufferSlice{mem.SliceBuffer(b)}, &request{}) // no crash
		}
		var s discovery.DiscoveryRequest
		if proto.Unmarshal(b, &s) == nil {
			compare(t, sotw, b, request{
				node: s.Node, url: s.TypeUrl, nonce: s.ResponseNonce, err: s.ErrorDetail,
				names: s.ResourceNames, version: s.VersionInfo,
			}, nil)
		}
	})
}

// TestManyNames: long lists are read by another road.
func TestManyNames(t *testing.T) {
	m := &discovery.DiscoveryRequest{VersionInfo: "v", Node: &core.Node{Id: "n"}, TypeUrl: "t", ResponseNonce: "3"}
	for i := range 1000 {
		m.ResourceNames = append(m.ResourceNames, fmt.Sprintf("outbound|80||svc-%d.ns.svc.cluster.local", i))
	}
	want := request{node: m.Node, url: "t", nonce: "3", version: "v", names: m.ResourceNames}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, sotw, b, want, nil)
	// A second run, after other fields, which protobuf allows.
	want.names = append(slices.Clone(want.names), "x")
	compare(t, sotw, append(slices.Clone(b), 3<<3|2, 1, 'x'), want, nil)
	// A field of another wire type before.
	compare(t, sotw, append([]byte{9 << 3, 1}, append(slices.Clone(b), 3<<3|2, 1, 'x')...), want, nil)
	var r request
	bad := bytes.Replace(b, []byte("svc-500."), []byte("\xffvc-500."), 1)
	if err = decodeRequest(sotw, mem.BufferSlice{mem.SliceBuffer(bad)}, &r); err == nil {
		err = r.spell()
	}
	if !errors.Is(err, errUTF8) {
		t.Error("a name that is not UTF-8 was taken")
	}
}

// TestRepeatedNames: of a run that the stream knows nothing is kept, all else is
// read, and nothing of it is in the buffer, which the next request takes.
func TestRepeatedNames(t *testing.T) {
	m := &discovery.DiscoveryRequest{VersionInfo: "v", TypeUrl: "t", ResponseNonce: "3"}
	for i := range 1000 {
		m.ResourceNames = append(m.ResourceNames, fmt.Sprintf("outbound|80||svc-%d.ns.svc.cluster.local", i))
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	decode := func(b []byte, repeated bool) request {
		t.Helper()
		r := request{repeats: func(url, run string) (uint64, bool) {
			if url != "t" || len(run) < len(b)/2 {
				t.Errorf("asked for %q, %d bytes", url, len(run))
			}
			return 7, repeated
		}}
		if err := decodeRequest(sotw, mem.BufferSlice{mem.SliceBuffer(b)}, &r); err != nil {
			t.Fatal(err)
		}
		return r
	}
	known, fresh := decode(b, true), decode(b, false)
	for range 100 { // whichever buffer the two had
		decode(bytes.ReplaceAll(b, []byte("outbound"), []byte("inbound_")), true)
	}
	if !known.repeated || known.sum != 7 || known.run != "" || known.url != "t" || known.nonce != "3" || known.version != "v" {
		t.Errorf("of a repeated run: %+v", known)
	}
	if err := fresh.spell(); err != nil || fresh.repeated || fresh.sum != 7 || !slices.Equal(fresh.names, m.ResourceNames) {
		t.Errorf("of a new run: %v, %d names, %+v", err, len(fresh.names), fresh)
	}
	// Names beside the run are more than the run says.
	if beside := decode(append(slices.Clone(b), 3<<3|2, 1, 'x'), true); beside.repeated || beside.sum != 0 {
		t.Error("names after the run were left out")
	}
}

// BenchmarkAcknowledgement is what reading an acknowledgement costs that repeats the
// names of 1,000 assignments.
func BenchmarkAcknowledgement(b *testing.B) {
	m := &discovery.DiscoveryRequest{VersionInfo: "v", TypeUrl: translate.EndpointType, ResponseNonce: "3"}
	for i := range 1000 {
		m.ResourceNames = append(m.ResourceNames, fmt.Sprintf("outbound|80||svc-%d.ns.svc.cluster.local", i))
	}
	data, err := proto.Marshal(m)
	if err != nil {
		b.Fatal(err)
	}
	st := &stream{server: &Server{cache: &Cache{names: newNameTable()}}}
	f := &st.feeds[endpoints]
	f.open = true
	r := request{repeats: func(url, run string) (uint64, bool) {
		sum, _ := st.repeats(url, run)
		f.run = sum
		return sum, true
	}}
	if err := decodeRequest(sotw, mem.BufferSlice{mem.SliceBuffer(data)}, &r); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		r = request{repeats: st.repeats}
		if err := decodeRequest(sotw, mem.BufferSlice{mem.SliceBuffer(data)}, &r); err != nil || !r.repeated {
			b.Fatal(err, r.repeated)
		}
	}
}

func compare(t *testing.T, p protocol, b []byte, want request, known map[string]string) {
	t.Helper()
	var got request
	// The message in two parts, as it may arrive.
	err := decodeRequest(p, mem.BufferSlice{mem.SliceBuffer(b[:len(b)/3]), mem.SliceBuffer(b[len(b)/3:])}, &got)
	if err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	if err := got.spell(); err != nil {
		t.Fatalf("%s: %v", p, err)
	}
	versions := map[string]string{}
	for name, v := range got.known() {
		versions[name] = v
	}
	if got.url != want.url || got.nonce != want.nonce || got.version != want.version ||
		!slices.Equal(got.names, want.names) || !slices.Equal(got.unsubscribe, want.unsubscribe) {
		t.Errorf("%s: got %+v, want %+v", p, got, want)
	}
	if diff := cmp.Diff(want.node, got.node, protocmp.Transform()); diff != "" {
		t.Errorf("%s node: %s", p, diff)
	}
	if diff := cmp.Diff(want.err, got.err, protocmp.Transform()); diff != "" {
		t.Errorf("%s error: %s", p, diff)
	}
	if p == delta && len(known) > 0 && !cmp.Equal(versions, known) {
		t.Errorf("versions %v, want %v", versions, known)
	}
}
