package judge

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/anypb"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// kinds are the Go types of what Envoys were sent that the simulator could
// tell apart: messages, and the members of their unions.
type kinds map[string]bool

// addWorld adds what the proxies of a mesh are sent.
func (k kinds) addWorld(w *simulate.World) {
	for _, p := range w.Pods() {
		c := w.Config(p)
		if c == nil {
			continue
		}
		for _, part := range c.Parts() {
			r := part.Resources()
			for list, m := range map[*translate.Set]proto.Message{r.Listeners: &listener.Listener{}, r.Routes: &route.RouteConfiguration{}, r.Clusters: &cluster.Cluster{}} {
				for _, item := range list.Items() {
					own := proto.Clone(m)
					if proto.Unmarshal(item.Bytes(), own) == nil {
						k.add(own.ProtoReflect())
					}
				}
			}
		}
	}
}

func (k kinds) add(m protoreflect.Message) {
	k[goName(m.Descriptor())] = true
	if a, ok := m.Interface().(*anypb.Any); ok {
		if inner, err := a.UnmarshalNew(); err == nil {
			k.add(inner.ProtoReflect())
		}
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		if fd.ContainingOneof() != nil {
			k[goName(m.Descriptor())+"_"+camel(string(fd.Name()))] = true
		}
		switch {
		case fd.IsMap():
			v.Map().Range(func(_ protoreflect.MapKey, v protoreflect.Value) bool {
				if fd.MapValue().Message() != nil {
					k.add(v.Message())
				}
				return true
			})
		case fd.Message() == nil:
		case fd.IsList():
			for i := range v.List().Len() {
				k.add(v.List().Get(i).Message())
			}
		default:
			k.add(v.Message())
		}
		return true
	})
}

// goName is the name of a message's Go type: those of the messages around it
// come first.
func goName(d protoreflect.Descriptor) string {
	name := string(d.Name())
	if outer, ok := d.Parent().(protoreflect.MessageDescriptor); ok {
		return goName(outer) + "_" + name
	}
	return name
}

func camel(field string) string {
	var out strings.Builder
	for _, word := range strings.Split(field, "_") {
		out.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	return out.String()
}

// told are the types that the simulator's type switches name.
func told(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../simulate/*.go")
	if err != nil || len(files) == 0 {
		t.Fatal("no sources", err)
	}
	out := map[string]bool{}
	for _, f := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), f, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(parsed, func(n ast.Node) bool {
			s, ok := n.(*ast.TypeSwitchStmt)
			if !ok {
				return true
			}
			for _, clause := range s.Body.List {
				for _, e := range clause.(*ast.CaseClause).List {
					if star, ok := e.(*ast.StarExpr); ok {
						if sel, ok := star.X.(*ast.SelectorExpr); ok {
							out[strings.TrimSuffix(sel.Sel.Name, "_")] = true
						}
					}
				}
			}
			return true
		})
	}
	return slices.Sorted(maps.Keys(out))
}

// missing are the kinds that no Envoy was sent although the simulator tells
// them.
func (k kinds) missing(t *testing.T) []string {
	t.Helper()
	return slices.DeleteFunc(told(t), func(name string) bool { return k[name] || neverMade[name] != "" })
}
