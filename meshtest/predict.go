package meshtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
)

// maxCauses bounds the causes of rejections that are looked for, since each
// takes an Envoy several runs.
const maxCauses = 50

// Predict finds what of the proxies' configuration an Envoy would reject, by
// giving it to that Envoy, and which object is the cause: the one without
// which the Envoy takes the configuration.
func Predict(ctx context.Context, w *simulate.World, e *Envoy) ([]Finding, error) {
	p := &prediction{envoy: e, skip: map[string]bool{}}
	var out []Finding
	for range maxCauses {
		bad, err := p.first(ctx, w)
		if err != nil || bad == nil {
			return out, err
		}
		c, err := p.causeOf(ctx, w, bad)
		if err != nil {
			return out, err
		}
		for _, problem := range c.problems {
			out = append(out, Finding{Problem: problem})
		}
		if c.without == nil {
			p.skip[bad.id()] = true
		} else {
			w = c.without // what the cause has hidden shows now
		}
	}
	return append(out, Finding{Problem: config.At(&config.Meta{}, "", config.Warning, "EnvoyRejects",
		"Envoy %s rejects more than the %d above: mend these first", e.Version, maxCauses)}), nil
}

type prediction struct {
	envoy *Envoy
	// skip are pieces that were refused for no cause that can be taken away.
	skip map[string]bool
}

// refused is a piece that the Envoy does not take.
type refused struct {
	*piece
	// around are the pieces beside which it is refused.
	around []*piece
	text   string
}

// arrangement is everything that the proxies are sent, each resource once,
// with names and addresses of which an Envoy takes all at once.
type arrangement struct {
	// clusters are in rounds, since a cluster's DNS cache is there once.
	clusters [][]*piece
	others   []*piece
}

func (p *prediction) arrange(w *simulate.World) (*arrangement, error) {
	w.Prepare()
	out := &arrangement{clusters: make([][]*piece, 1)}
	seen, parts := map[string]bool{}, map[*simulate.Part]bool{}
	names, places := map[string]int{}, map[string]*simulate.Part{}
	for _, pod := range w.Pods() {
		c := w.Config(pod)
		if c == nil {
			continue
		}
		for _, part := range c.Parts() {
			if parts[part] {
				continue
			}
			parts[part] = true
			pieces, err := piecesOf(pod, part)
			if err != nil {
				return nil, err
			}
			for _, x := range pieces {
				if id := x.id(); seen[id] || p.skip[id] {
					continue
				}
				seen[x.id()] = true
				out.add(x, names, places)
			}
		}
	}
	return out, nil
}

// add puts a piece in. The first one keeps its name and address; those of
// other proxies get others.
func (a *arrangement) add(x *piece, names map[string]int, places map[string]*simulate.Part) {
	n := names[x.kind+" "+x.resource.Name]
	names[x.kind+" "+x.resource.Name]++
	switch {
	case x.cluster != nil:
		round := 0
		if x.cluster.GetClusterType() != nil {
			round = n
		} else if n > 0 {
			x.cluster.Name += fmt.Sprintf(" #%d", n+1)
		}
		for len(a.clusters) <= round {
			a.clusters = append(a.clusters, nil)
		}
		a.clusters[round] = append(a.clusters[round], x)
	default:
		if n > 0 && x.kind == "listener" {
			x.listener.Name += fmt.Sprintf(" #%d", n+1)
		}
		x.settle(places)
		a.others = append(a.others, x)
	}
}

// first is the first piece that the Envoy refuses, or nil.
func (p *prediction) first(ctx context.Context, w *simulate.World) (*refused, error) {
	a, err := p.arrange(w)
	if err != nil {
		return nil, err
	}
	for _, round := range a.clusters {
		if bad, err := p.firstOf(ctx, nil, round); err != nil || bad != nil {
			return bad, err
		}
	}
	return p.firstOf(ctx, a.clusters[0], a.others)
}

// firstOf finds the shortest head of a list that is refused: its last piece is
// the one. Envoy reads clusters and listeners in their order.
func (p *prediction) firstOf(ctx context.Context, base, list []*piece) (*refused, error) {
	text, err := p.refuses(ctx, base, list)
	if err != nil || text == "" {
		return nil, err
	}
	fine, end := 0, len(list)
	for end-fine > 1 {
		mid := (fine + end) / 2
		said, err := p.refuses(ctx, base, list[:mid])
		switch {
		case err != nil:
			return nil, err
		case said == "":
			fine = mid
		default:
			end, text = mid, said
		}
	}
	bad := &refused{piece: list[end-1], around: base, text: text}
	said, err := p.refuses(ctx, base, list[end-1:end])
	switch {
	case err != nil:
		return nil, err
	case said != "":
		bad.text = said
	default: // it is what comes before, too
		bad.around = slices.Concat(base, list[:end-1])
	}
	bad.text = bad.plain(bad.text)
	return bad, nil
}

// plain is Envoy's text with the name that the piece has for proxies.
func (p *piece) plain(text string) string {
	if p.cluster != nil {
		return strings.ReplaceAll(text, p.cluster.GetName(), p.resource.Name)
	}
	return strings.ReplaceAll(text, p.listener.GetName(), p.resource.Name)
}

func (p *prediction) refuses(ctx context.Context, base, list []*piece) (string, error) {
	b, err := bootstrapOf(slices.Concat(base, list))
	if err != nil {
		return "", err
	}
	return p.envoy.refuses(ctx, b)
}
