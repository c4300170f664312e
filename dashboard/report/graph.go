package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// Graph is Calls as a drawing in two layers: callers at the left, gateways
// first, and services at the right, both grouped by namespace. Where it stands
// depends on the configuration only, so that the same mesh looks the same.
// Lengths are in CSS pixels.
type Graph struct {
	Width, Height int
	Groups        []Group
	Edges         []Edge
	// Notes say what is not drawn, and what is drawn as one.
	Notes []string
	// Kinds are those of the edges, for the legend.
	Plain, TLS, MTLS, Some, Denied bool
}

// Group is a box around nodes.
type Group struct {
	Name                string
	X, Y, Width, Height int
	Nodes               []Node
}

// Node is one gateway, workload or service; or all of a namespace.
type Node struct {
	Name, Text          string // Text is what fits
	X, Y, Width, Height int
}

// TextX and TextY are where the text begins.
func (n Node) TextX() int { return n.X + 10 }

// TextY is that of the text's baseline.
func (n Node) TextY() int { return n.Y + n.Height/2 + 5 }

// Edge is what happens to requests.
type Edge struct {
	From, To string
	Mode     string // mtls, tls, plaintext; denied
	Authz    string // allowed, depends, denied
	Line     string // an SVG path
	Head     string // an SVG path: a full or hollow arrow, or a bar
	Title    string
}

// Bounds of a drawing that can be read.
const (
	maxNodes = 60
	maxEdges = 200
	// maxNamespaces of callers and of services, where namespaces are drawn.
	maxNamespaces = 14
	// maxName of a node's name, in characters.
	maxName = 30
)

// Sizes.
const (
	nodeHeight, edgeGap       = 28, 12 // edges that end at a node are so far apart
	nodeGap, groupGap, margin = 8, 14, 10
	groupHead                 = 24
	charWidth                 = 8 // no character of a name is wider on average
	betweenLayers             = 250
	headLength                = 11
)

// gateways begins the names of their groups; no namespace has a capital.
const gateways = "Gateways"

// graphNode is a node before it has a place.
type graphNode struct {
	group, name, text string
	ends              []*graphEdge
	place             Node
}

type graphEdge struct {
	from, to *graphNode
	calls    []pair
	y1, y2   int
}

type pair struct {
	client string
	call   *Call
}

// Graph draws the calls.
func (c *Calls) Graph() *Graph {
	g := &Graph{}
	d := c.drawn(func(cl *Client) (string, string) {
		ns, name, _ := strings.Cut(cl.Name, "/")
		if cl.Gateway {
			ns = gateways + " in " + ns
		}
		return ns, name
	}, func(service string) (string, string) {
		host, port, _ := strings.Cut(service, ":")
		i := strings.LastIndexByte(host, '.')
		return host[i+1:], host[:max(i, 0)] + ":" + port
	})
	if n := len(d.callers) + len(d.services); n > maxNodes || len(d.edges) > maxEdges {
		g.Notes = append(g.Notes, fmt.Sprintf("Drawn by namespace: %d callers and services with %d connections are too many to draw one by one.", n, len(d.edges)))
		d = c.drawn(func(cl *Client) (string, string) {
			if cl.Gateway {
				return gateways, "all gateways"
			}
			return "Workloads of", namespaceOf(cl.Name)
		}, func(service string) (string, string) {
			host, _, _ := strings.Cut(service, ":")
			return "Services of", host[strings.LastIndexByte(host, '.')+1:]
		})
		if left := d.cut(maxNamespaces); left > 0 {
			g.Notes = append(g.Notes, fmt.Sprintf("%s with the fewest connections are not drawn.", plural(left, "namespace", "namespaces")))
		}
	}
	d.place(g)
	return g
}

// drawing is what a Graph will show.
type drawing struct {
	callers, services []*graphNode
	edges             []*graphEdge
}

// drawn makes the nodes and edges, with the group and name of each client and
// service; clients of one name are one node. Nodes are sorted, gateways first.
func (c *Calls) drawn(caller func(*Client) (group, name string), service func(string) (group, name string)) *drawing {
	d := &drawing{}
	node := func(list *[]*graphNode, group, name string) *graphNode {
		i := slices.IndexFunc(*list, func(n *graphNode) bool { return n.group == group && n.name == name })
		if i >= 0 {
			return (*list)[i]
		}
		n := &graphNode{group: group, name: name, text: name}
		if r := []rune(name); len(r) > maxName {
			n.text = string(r[:maxName-1]) + "…"
		}
		*list = append(*list, n)
		return n
	}
	edges := map[[2]*graphNode]*graphEdge{}
	for i := range c.Clients {
		cl := &c.Clients[i]
		g, name := caller(cl)
		from := node(&d.callers, g, name)
		for j := range cl.To {
			g, name := service(cl.To[j].Service)
			to := node(&d.services, g, name)
			if cl.To[j].Kind == "unreachable" {
				continue
			}
			key := [2]*graphNode{from, to}
			e := edges[key]
			if e == nil {
				e = &graphEdge{from: from, to: to}
				edges[key] = e
				d.edges = append(d.edges, e)
				from.ends, to.ends = append(from.ends, e), append(to.ends, e)
			}
			e.calls = append(e.calls, pair{cl.Name, &cl.To[j]})
		}
	}
	for _, list := range [][]*graphNode{d.callers, d.services} {
		slices.SortStableFunc(list, func(a, b *graphNode) int {
			if x, y := strings.HasPrefix(a.group, gateways), strings.HasPrefix(b.group, gateways); x != y {
				if x {
					return -1
				}
				return 1
			}
			return strings.Compare(a.group+"\x00"+a.name, b.group+"\x00"+b.name)
		})
	}
	return d
}

// cut keeps the n nodes of each layer with the most edges, and reports how many
// it leaves out.
func (d *drawing) cut(n int) (left int) {
	gone := map[*graphNode]bool{}
	cut := func(list []*graphNode) []*graphNode {
		byEdges := slices.Clone(list)
		slices.SortStableFunc(byEdges, func(a, b *graphNode) int { return len(b.ends) - len(a.ends) })
		for _, x := range byEdges[min(n, len(byEdges)):] {
			gone[x] = true
		}
		return slices.DeleteFunc(list, func(x *graphNode) bool { return gone[x] })
	}
	d.callers, d.services = cut(d.callers), cut(d.services)
	dropped := func(e *graphEdge) bool { return gone[e.from] || gone[e.to] }
	d.edges = slices.DeleteFunc(d.edges, dropped)
	for _, x := range slices.Concat(d.callers, d.services) {
		x.ends = slices.DeleteFunc(x.ends, dropped)
	}
	names := map[string]bool{} // a namespace may be left out as both
	for x := range gone {
		names[x.name] = true
	}
	return len(names)
}

// place gives everything its place.
func (d *drawing) place(g *Graph) {
	width := layer(g, d.callers, margin)
	right := margin + width + betweenLayers
	width = layer(g, d.services, right)
	g.Width = right + width + margin
	for i := range g.Groups {
		g.Height = max(g.Height, g.Groups[i].Y+g.Groups[i].Height+margin)
	}
	// Edges of a node leave it in the order of where they go: none of them
	// cross each other there.
	for _, n := range d.callers {
		slices.SortStableFunc(n.ends, func(a, b *graphEdge) int { return a.to.place.Y - b.to.place.Y })
		for i, e := range n.ends {
			e.y1 = n.end(i)
		}
	}
	for _, n := range d.services {
		slices.SortStableFunc(n.ends, func(a, b *graphEdge) int { return a.from.place.Y - b.from.place.Y })
		for i, e := range n.ends {
			e.y2 = n.end(i)
		}
	}
	for _, e := range d.edges {
		out := e.draw()
		g.Edges = append(g.Edges, out)
		switch {
		case out.Authz == "denied":
			g.Denied = true
		case out.Mode == simulate.Plaintext:
			g.Plain = true
		case out.Mode == simulate.TLS:
			g.TLS = true
		default:
			g.MTLS = true
		}
		g.Some = g.Some || out.Authz == "depends"
	}
}

// layer puts nodes below each other, in boxes of their groups, and returns the
// width.
func layer(g *Graph, nodes []*graphNode, x int) int {
	chars := 0
	for _, n := range nodes {
		chars = max(chars, len([]rune(n.text)), len([]rune(n.group))-2)
	}
	inner := chars*charWidth + 20
	y := margin
	for i := 0; i < len(nodes); {
		box := Group{Name: nodes[i].group, X: x, Y: y, Width: inner + 2*margin}
		y += groupHead
		for group := nodes[i].group; i < len(nodes) && nodes[i].group == group; i++ {
			n := nodes[i]
			height := max(nodeHeight, edgeGap*(len(n.ends)+1))
			n.place = Node{Name: n.name, Text: n.text, X: x + margin, Y: y, Width: inner, Height: height}
			box.Nodes = append(box.Nodes, n.place)
			y += height + nodeGap
		}
		y += margin - nodeGap
		box.Height = y - box.Y
		g.Groups = append(g.Groups, box)
		y += groupGap
	}
	return inner + 2*margin
}

// end is the height of a node's edge i.
func (n *graphNode) end(i int) int {
	return n.place.Y + n.place.Height*(i+1)/(len(n.ends)+1)
}

// draw makes the line and what stands at its end.
func (e *graphEdge) draw() Edge {
	out := Edge{From: e.from.group + "/" + e.from.name, To: e.to.group + "/" + e.to.name}
	x1, x2 := e.from.place.X+e.from.place.Width, e.to.place.X
	out.Mode, out.Authz = e.kind()
	stop := x2 - headLength
	out.Line = fmt.Sprintf("M%d %dC%d %d %d %d %d %d", x1, e.y1, x1+betweenLayers/2, e.y1, stop-betweenLayers/2, e.y2, stop, e.y2)
	if out.Authz == "denied" {
		out.Head = fmt.Sprintf("M%d %dV%d", stop, e.y2-4, e.y2+4)
	} else {
		out.Head = fmt.Sprintf("M%d %dL%d %dL%d %dZ", stop, e.y2-5, x2, e.y2, stop, e.y2+5)
	}
	out.Title = e.title(out.Mode, out.Authz)
	return out
}

// kind sums up the calls of an edge: of several connections the weakest, and
// allowed or denied only if all are.
func (e *graphEdge) kind() (mode, authz string) {
	denied := 0
	mode, authz = simulate.MTLS, "allowed"
	for _, p := range e.calls {
		switch {
		case p.call.Kind == "denied":
			denied++
			continue
		case p.call.Kind == "some":
			authz = "depends"
		}
		if p.call.Mode == simulate.Plaintext || p.call.Mode == simulate.TLS && mode == simulate.MTLS {
			mode = p.call.Mode
		}
	}
	switch denied {
	case 0:
	case len(e.calls):
		mode, authz = "denied", "denied"
	default:
		authz = "depends"
	}
	return mode, authz
}

var modeText = map[string]string{simulate.MTLS: "mutual TLS", simulate.TLS: "TLS", simulate.Plaintext: "plaintext"}

// title says what an edge is, and which objects made it so.
func (e *graphEdge) title(mode, authz string) string {
	var b strings.Builder
	p := e.calls[0]
	name := p.client + " → " + p.call.Service
	if len(e.calls) > 1 {
		name = fmt.Sprintf("%s → %s, %d pairs", e.from.name, e.to.name, len(e.calls))
	}
	b.WriteString(name + ": ")
	switch authz {
	case "denied":
		b.WriteString("denied by policies")
	case "depends":
		b.WriteString("policies let in some requests, by " + modeText[mode])
	default:
		b.WriteString("allowed, by " + modeText[mode])
	}
	var reasons []string
	why := ""
	for _, p := range e.calls {
		for _, r := range p.call.Reasons {
			if !slices.Contains(reasons, r) {
				reasons = append(reasons, r)
			}
		}
		if why == "" {
			why = p.call.Why
		}
	}
	const most = 8
	for i, r := range reasons {
		if i == most {
			fmt.Fprintf(&b, "\nand %d more", len(reasons)-most)
			break
		}
		b.WriteString("\n" + r)
	}
	if why != "" {
		b.WriteString("\nfor example " + why)
	}
	return b.String()
}
