package discovery

import (
	"fmt"
	"slices"
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// holding keeps the objects that sources gave and settles which version of
// each is in effect.
type holding struct {
	validate Validator
	order    []string // sources, the one that wins first
	objects  map[config.Key]*held
	// troubled are the objects that have problems.
	troubled map[config.Key]*held
}

// held is one object: what each source says about it.
type held struct {
	versions []version // in the order of precedence of their sources
	effect   *Object
}

// version is one source's word about an object.
type version struct {
	source string
	// newest is what the source gave last; good the last one that passed
	// validation, nil before the first.
	newest, good *Object
	problems     []config.Problem
	// unsafe: good has not passed validation, but is better than nothing (see
	// restricts).
	unsafe bool
}

func newHolding(validate Validator, sources []string) holding {
	return holding{
		validate: validate, order: slices.Clone(sources),
		objects: map[config.Key]*held{}, troubled: map[config.Key]*held{},
	}
}

// apply takes one change and returns the version in effect before and after
// it, nil for none; the same pointer if it is still the same. touched says
// that the problems may have changed.
func (h *holding) apply(source string, c *Change, hash config.Hash) (key config.Key, before, after *Object, touched bool) {
	key = c.Object.Meta.Key
	o := h.objects[key]
	if o != nil {
		before = o.effect
	}
	switch {
	case c.Deleted && o == nil:
		return key, nil, nil, false
	case c.Deleted:
		touched = o.remove(source)
	default:
		if o == nil {
			o = &held{}
			h.objects[key] = o
		}
		touched = h.put(o, source, &c.Object, hash)
	}
	o.settle()
	if len(o.versions) == 0 {
		delete(h.objects, key)
	}
	if touched {
		if o.troubled() {
			h.troubled[key] = o
		} else {
			delete(h.troubled, key)
		}
	}
	return key, before, o.effect, touched
}

// put replaces a source's version, unless it says the same as before; hash is
// its identity.
func (h *holding) put(o *held, source string, given *Object, hash config.Hash) (touched bool) {
	next := *given
	next.Meta.Hash = hash
	v := o.versionOf(source, h.rank)
	if v.newest != nil && v.newest.Meta.Hash == next.Meta.Hash &&
		(v.newest.Meta.Generation == next.Meta.Generation || !isIstio(next.Meta.Key)) {
		return false
	}
	had := len(v.problems) > 0 || len(o.versions) > 1
	v.newest, v.problems = &next, nil
	standsIn := next.Meta.StandsIn != config.StandsInForNothing
	if spec, ok := next.Body.(proto.Message); ok && h.validate != nil && next.Meta.Group != "" && !standsIn {
		v.problems = h.validate(&next.Meta, spec)
	}
	switch failed := standsIn || slices.ContainsFunc(v.problems, isError); {
	case !failed:
		v.good, v.unsafe = &next, false
	case restricts(&next) && (v.good == nil || v.unsafe):
		v.good, v.unsafe = stricter(&next, v.problems), true
	}
	if standsIn || v.unsafe && v.good.Meta.StandsIn != config.StandsInForNothing {
		v.problems = append(v.problems, v.standInProblem())
	}
	return had || len(v.problems) > 0 || len(o.versions) > 1
}

// restricts reports whether an object only ever takes rights away, or may be
// there to do so. Without a good version of it everything would be allowed, so
// the strictest is in effect that a faulty one can have meant.
func restricts(o *Object) bool {
	if o.Meta.Group != ExtensionsGroup {
		return o.Meta.Group == SecurityGroup
	}
	spec, _ := o.Body.(proto.Message)
	_, closes := StandIn(o.Meta, spec, true)
	return closes
}

func isError(p config.Problem) bool { return p.Severity == config.Error }

func (h *holding) rank(source string) int {
	i := slices.Index(h.order, source)
	if i < 0 {
		h.order = append(h.order, source)
		i = len(h.order) - 1
	}
	return i
}

func (o *held) versionOf(source string, rank func(string) int) *version {
	at := 0
	for ; at < len(o.versions); at++ {
		if o.versions[at].source == source {
			return &o.versions[at]
		}
		if rank(o.versions[at].source) > rank(source) {
			break
		}
	}
	o.versions = slices.Insert(o.versions, at, version{source: source})
	return &o.versions[at]
}

func (o *held) remove(source string) (touched bool) {
	i := slices.IndexFunc(o.versions, func(v version) bool { return v.source == source })
	if i < 0 {
		return false
	}
	touched = len(o.versions[i].problems) > 0 || len(o.versions) > 1
	o.versions = slices.Delete(o.versions, i, i+1)
	return touched
}

func (o *held) settle() {
	o.effect = nil
	if v := o.wins(func(*version) bool { return true }); v != nil {
		o.effect = v.good
	}
}

// wins is the version that counts of those that can.
func (o *held) wins(can func(*version) bool) (out *version) {
	for i := range o.versions {
		if v := &o.versions[i]; v.good != nil && can(v) {
			if !v.good.Meta.Implied {
				return v
			}
			out = v
		}
	}
	return out
}

func (o *held) troubled() bool {
	return len(o.versions) > 1 || (len(o.versions) == 1 && len(o.versions[0].problems) > 0)
}

// addProblems adds what is wrong with the objects that take admits.
func (h *holding) addProblems(out []config.Problem, takes func(*Object) bool) []config.Problem {
	for _, o := range h.troubled {
		wins := o.wins(func(v *version) bool { return takes(v.newest) })
		for i := range o.versions {
			v := &o.versions[i]
			if !takes(v.newest) {
				continue
			}
			out = append(out, v.problems...)
			if v.good == nil || v == wins || v.good.Meta.Implied {
				continue
			}
			by := "source " + strconv.Quote(wins.source)
			if m := &wins.good.Meta; m.File != "" {
				by += fmt.Sprintf(" (%s:%d)", m.File, m.Line)
			}
			out = append(out, config.At(&v.newest.Meta, "", config.Info, "Overridden",
				"%s defines the object too, and has precedence over source %q", by, v.source))
		}
	}
	return out
}
