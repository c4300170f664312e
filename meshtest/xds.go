package meshtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	cluster "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listener "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// ResourceDiff is how one resource of a workload's proxies differs, line by
// line of its JSON.
func ResourceDiff(before, after *simulate.World, workload, resource string) string {
	kind, name, _ := strings.Cut(resource, " ")
	was, now := resourceText(before, workload, kind, name), resourceText(after, workload, kind, name)
	return lineDiff(strings.Split(was, "\n"), strings.Split(now, "\n"))
}

func resourceText(w *simulate.World, workload, kind, name string) string {
	p, err := w.Find(workload)
	if err != nil || w.Config(p) == nil {
		return ""
	}
	for _, part := range w.Config(p).Parts() {
		var m proto.Message
		var set *translate.Set
		switch kind {
		case "cluster":
			m, set = &cluster.Cluster{}, part.Resources().Clusters
		case "listener":
			m, set = &listener.Listener{}, part.Resources().Listeners
		case "route":
			m, set = &route.RouteConfiguration{}, part.Resources().Routes
		default:
			return ""
		}
		r := set.Get(name)
		if r == nil || proto.Unmarshal(r.Bytes(), m) != nil {
			continue
		}
		js, err := protojson.Marshal(m)
		var out bytes.Buffer
		if err != nil || json.Indent(&out, js, "", "  ") != nil {
			return fmt.Sprint(err)
		}
		return out.String()
	}
	return ""
}

// contextLines are shown around a changed line.
const contextLines = 3

// lineDiff marks the lines of two texts that differ, in the unified form
// without positions. Common head and tail are set aside; what is between is
// compared in full.
func lineDiff(a, b []string) string {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	var out strings.Builder
	write := func(mark string, lines []string) {
		for _, l := range lines {
			out.WriteString(mark + l + "\n")
		}
	}
	write("  ", a[max(0, head-contextLines):head])
	middle(&out, a[head:len(a)-tail], b[head:len(b)-tail])
	write("  ", a[len(a)-tail:min(len(a), len(a)-tail+contextLines)])
	return out.String()
}

// maxCompared bounds the lines that are compared one by one.
const maxCompared = 2000

// middle marks removed and added lines, with the longest common sequence kept.
func middle(out *strings.Builder, a, b []string) {
	if len(a) > maxCompared || len(b) > maxCompared {
		a, b = append(a[:maxCompared/2:maxCompared/2], "…"), append(b[:maxCompared/2:maxCompared/2], "…")
	}
	common := make([][]int, len(a)+1)
	for i := range common {
		common[i] = make([]int, len(b)+1)
	}
	for i := len(a) - 1; i >= 0; i-- {
		for j := len(b) - 1; j >= 0; j-- {
			if a[i] == b[j] {
				common[i][j] = common[i+1][j+1] + 1
			} else {
				common[i][j] = max(common[i+1][j], common[i][j+1])
			}
		}
	}
	for i, j := 0, 0; i < len(a) || j < len(b); {
		switch {
		case i < len(a) && j < len(b) && a[i] == b[j]:
			out.WriteString("  " + a[i] + "\n")
			i, j = i+1, j+1
		case j == len(b) || i < len(a) && common[i+1][j] >= common[i][j+1]:
			out.WriteString("- " + a[i] + "\n")
			i++
		default:
			out.WriteString("+ " + b[j] + "\n")
			j++
		}
	}
}
