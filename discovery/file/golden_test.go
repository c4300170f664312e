package file_test

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/tools/txtar"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/discovery"
	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

var update = flag.Bool("update", false, "write the results into the test cases")

// golden runs the cases of a folder: show says what a case's section, such as
// "problems", holds for the files of the case before it.
func golden(t *testing.T, folder string, show func(t *testing.T, files []txtar.File, section string) string) {
	t.Helper()
	cases, err := filepath.Glob(filepath.Join("testdata", folder, "*.txtar"))
	if err != nil || len(cases) == 0 {
		t.Fatal("no cases", err)
	}
	for _, path := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			a, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var files []txtar.File
			for i := range a.Files {
				f := &a.Files[i]
				if filepath.Ext(f.Name) != "" {
					files = append(files, *f)
					continue
				}
				got := show(t, files, f.Name)
				if *update {
					f.Data = []byte(got)
				} else if d := cmp.Diff(string(f.Data), got); d != "" {
					t.Errorf("%s (-want +got):\n%s", f.Name, d)
				}
			}
			if *update {
				if err := os.WriteFile(path, txtar.Format(a), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// TestParse shows what becomes of one stream of documents.
func TestParse(t *testing.T) {
	golden(t, "parse", func(t *testing.T, files []txtar.File, section string) string {
		t.Helper()
		f := files[len(files)-1]
		objects, problems := file.Parse(f.Name, f.Data)
		var b strings.Builder
		switch section {
		case "problems":
			for _, p := range problems {
				fmt.Fprintln(&b, p)
			}
		case "objects":
			for _, o := range objects {
				fmt.Fprintf(&b, "%s:%d %s %s\n", o.Meta.File, o.Meta.Line, o.Meta.Version, o.Meta.Key)
			}
		case "specs":
			for _, o := range objects {
				fmt.Fprintln(&b, o.Meta.Key, specText(t, o))
			}
		case "lines":
			for _, o := range objects {
				for _, path := range slices.Sorted(maps.Keys(o.Meta.Lines)) {
					fmt.Fprintf(&b, "%d %s\n", o.Meta.Lines[path], path)
				}
			}
		default:
			t.Fatalf("unknown section %q", section)
		}
		return b.String()
	})
}

// specText is a spec in protobuf's text form, whose spacing is not stable.
func specText(t *testing.T, o discovery.Object) string {
	t.Helper()
	m, ok := o.Body.(proto.Message)
	if !ok {
		return fmt.Sprintf("%T", o.Body)
	}
	return strings.Join(strings.Fields(prototext.MarshalOptions{}.Format(m)), " ")
}

// pods10 gives every pod an address that follows from its name.
func pods10(pod config.Key, labels map[string]string) []string {
	if labels["pending"] != "" {
		return nil
	}
	h := config.NewHasher().Str(pod.Namespace, pod.Name).Sum()
	v4 := fmt.Sprintf("10.244.%d.%d", h>>8&0xff, h&0xff)
	if labels["dual"] != "" {
		return []string{v4, fmt.Sprintf("fd00:244::%x", uint16(h))}
	}
	return []string{v4}
}

// TestCluster shows what a folder's objects are with what a cluster adds.
func TestCluster(t *testing.T) {
	golden(t, "cluster", func(t *testing.T, files []txtar.File, section string) string {
		t.Helper()
		dir := t.TempDir()
		for _, f := range files {
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		m, err := file.New([]string{dir}, file.WithAddresses(pods10)).Load(nil)
		if err != nil {
			t.Fatal(err)
		}
		var b strings.Builder
		switch section {
		case "services":
			for s := range m.Services.All() {
				fmt.Fprintf(&b, "%s %s\n", s.Hostname, strings.Join(s.Addresses, " "))
			}
		case "pods":
			for w := range m.Workloads.All() {
				fmt.Fprintf(&b, "%s/%s at %s on %q of %s %v\n", w.Namespace, w.Name, strings.Join(w.IPs, " "), w.Node, w.Owner, w.Labels)
			}
		case "endpoints":
			for e := range m.Endpoints.All() {
				for _, port := range slices.Sorted(maps.Keys(e.ByPort)) {
					for _, p := range e.ByPort[port] {
						fmt.Fprintf(&b, "%s %s %s:%d %v %v %s %s\n", e.ID.Hostname, port, p.Address, p.Port, p.MoreAddresses, p.Health, p.Hostname, p.Locality)
					}
				}
			}
		case "namespaces":
			for n := range m.Namespaces.All() {
				fmt.Fprintf(&b, "%s %v\n", n.Name, n.Labels)
			}
		case "problems":
			for _, p := range m.Problems {
				p.File = filepath.Base(p.File)
				fmt.Fprintln(&b, p)
			}
		default:
			t.Fatalf("unknown section %q", section)
		}
		return b.String()
	})
}

// FuzzParse requires of any input that it yields objects that name themselves
// and problems that say where.
func FuzzParse(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range cases {
		a, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, in := range a.Files {
			f.Add(in.Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := file.Parse("f.yaml", data)
		// YAML has more line breaks than editors.
		lines := 1
		for _, br := range []string{"\n", "\r", "\u0085", "\u2028", "\u2029"} {
			lines += strings.Count(string(data), br)
		}
		for _, o := range objects {
			if o.Meta.Name == "" || o.Meta.Kind == "" || o.Body == nil || o.Meta.Line < 1 || o.Meta.Line > lines {
				t.Errorf("object %v on line %d of %d", o.Meta.Key, o.Meta.Line, lines)
			}
			switch b := o.Body.(type) {
			case *corev1.Pod:
				if b.Namespace != o.Meta.Namespace {
					t.Errorf("%v has namespace %q", o.Meta.Key, b.Namespace)
				}
			case *discoveryv1.EndpointSlice:
				if b.Namespace != o.Meta.Namespace {
					t.Errorf("%v has namespace %q", o.Meta.Key, b.Namespace)
				}
			}
		}
		for _, p := range problems {
			if p.Message == "" || p.Code == "" || p.File != "f.yaml" || p.Line < 1 || p.Line > lines {
				t.Errorf("problem %v of %d lines", p, lines)
			}
		}
		s := discovery.NewStore(nil, "fuzz")
		for _, o := range objects {
			s.Apply("fuzz", []discovery.Change{{Object: o}})
		}
		s.Synced("fuzz")
	})
}
