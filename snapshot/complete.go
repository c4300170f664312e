package snapshot

import (
	"maps"
	"slices"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// complete reports whether every response of a kind states all that the client
// is to have. What it has then changes with its answers only: an acknowledged
// response is what it has, one that it dropped changed nothing.
func (s *stream) complete(k kind) bool { return s.protocol == sotw && k.whole() }

// composeComplete is compose for complete responses.
func (s *stream) composeComplete(k kind) bool {
	f := &s.feeds[k]
	if s.composeGroup(k) {
		return true
	}
	now := s.now(k)
	if f.have == now && !f.owed && !f.letGo || s.judging > 0 {
		return false // what was refused is about to be replaced
	}
	f.offeredAnew(&now)
	changed := f.changed(k, &now)
	want, held := s.want(k, f, &now)
	released := f.letGo && len(held) < len(f.held)
	// What was put together to find a culprit or to keep something has a version
	// that no other replica gives: once more is needed, under the version of what
	// is offered.
	odd := len(f.has.instead) > 0 && len(want.instead) == 0
	send := f.owed || released || odd || anySent(changed)
	step := response{kind: k, before: f.have, after: now, gives: want, from: s.view}
	if send {
		s.followComplete(k, s.view, changed, &want)
	}
	if k == clusters && released {
		s.cool(slices.DeleteFunc(slices.Clone(f.held), func(r *translate.Resource) bool { return slices.Contains(held, r) }))
	}
	f.have, f.held, f.force, f.owed, f.letGo = now, held, nil, false, false
	if !send {
		return false
	}
	s.enqueueComplete(f, step)
	return true
}

// followComplete is follow for a complete response.
func (s *stream) followComplete(k kind, v *view, changed []*batch, gives *contents) {
	s.follow(k, v, changed)
	f, e := &s.feeds[k], &s.feeds[endpoints]
	if k != clusters || !f.used || !f.ackedAt.IsZero() {
		return
	}
	// The client may have some of a response that another stream did not see
	// answered: anything may change for it.
	var again []string
	for _, r := range gives.all() {
		if e.wants(r.Name) {
			again = append(again, r.Name)
		}
	}
	e.force = s.names().with(e.force, again)
}

func (s *stream) enqueueComplete(f *feed, step response) {
	step.version = s.server.cache.past.sent(step.kind, step.gives)
	for _, b := range step.gives.batches(step.kind, f) {
		step.pieces = append(step.pieces, b.pieces(sotw, 0)...)
	}
	f.queue = append(f.queue, &step)
}

// changed is what the client has not as it is offered now, but for what it
// refuses.
func (f *feed) changed(k kind, now *layers) []*batch {
	var out []*batch
	for i := range now {
		out = append(out, between(f.has.layers[i], now[i], f.wildcard, f.only))
	}
	if len(f.has.instead)+len(f.refused) == 0 {
		return out
	}
	names := maps.Clone(f.has.instead)
	if names == nil {
		names = map[string]*translate.Resource{}
	}
	for _, b := range out {
		if b == nil {
			continue
		}
		for _, r := range b.send {
			names[r.Name] = nil
		}
	}
	var d difference
	for _, name := range slices.Sorted(maps.Keys(names)) {
		r, old := now.get(name), f.has.get(name)
		if r == nil || !f.wants(name) || f.refuses(r) || old != nil && old.Version == r.Version {
			continue
		}
		d.send = append(d.send, r)
	}
	return []*batch{newBatch(k, d)}
}

// want is what the client is to have: all that is offered, what it has in place
// of what it refuses and of what is withheld, and what it has beyond that until
// nothing leads to it, which it returns as held.
func (s *stream) want(k kind, f *feed, now *layers) (want contents, held []*translate.Resource) {
	instead := map[string]*translate.Resource{}
	for name := range f.refused {
		if r := now.get(name); r != nil && f.refuses(r) {
			instead[name] = f.has.get(name)
		}
	}
	for _, r := range f.beyond(now) {
		switch {
		case now.withholds(r.Name):
		case f.letGo && (s.view == s.newest || s.newest.layers[k].get(r.Name) == nil):
			continue
		default:
			held = append(held, r)
		}
		instead[r.Name] = r
	}
	return contents{*now, instead}, held
}

// beyond is what the client has that is not offered now, by name.
func (f *feed) beyond(now *layers) []*translate.Resource {
	more := map[string]*translate.Resource{}
	add := func(r *translate.Resource) {
		if r != nil && more[r.Name] == nil && now.get(r.Name) == nil && f.wants(r.Name) && !f.refuses(r) {
			more[r.Name] = r
		}
	}
	for i, l := range f.has.layers {
		if l == now[i] {
			continue
		}
		if b := between(l, now[i], true, nil); b != nil {
			for _, r := range b.gone {
				add(f.has.get(r.Name))
			}
		}
	}
	for _, l := range now {
		if l != nil {
			for _, name := range l.withheld {
				add(f.has.get(name))
			}
		}
	}
	for _, r := range f.has.instead {
		add(r)
	}
	out := make([]*translate.Resource, 0, len(more))
	for _, name := range slices.Sorted(maps.Keys(more)) {
		out = append(out, more[name])
	}
	return out
}

// leadsOnlyElsewhere reports whether nothing that the client has points to
// something held of a kind.
func (f *feed) leadsOnlyElsewhere(k kind, held []*translate.Resource) bool {
	if f.has.layers == f.have && len(f.has.instead) == 0 && !slices.ContainsFunc(f.have[:], func(l *layer) bool { return l != nil && l.stale }) {
		return true // all of it is of the newest view
	}
	return !slices.ContainsFunc(f.has.all(), func(r *translate.Resource) bool { return pointsTo(r, k, held) })
}

// offeredAnew drops the refusals of versions that are no longer offered.
func (f *feed) offeredAnew(now *layers) {
	for name := range f.refused {
		if now.get(name) == nil && !now.withholds(name) || !f.wants(name) {
			delete(f.refused, name)
		}
	}
}

// composeGroup queues the next group of names whose fate is to be found out,
// beside what the client has; false if there is none.
func (s *stream) composeGroup(k kind) bool {
	f := &s.feeds[k]
	for ; len(f.split) > 0; f.split = f.split[1:] {
		try := map[string]*translate.Resource{}
		var group []*translate.Resource
		for _, name := range f.split[0] {
			if r := f.splitOf.gives.get(name); r != nil && f.wants(name) && !f.refuses(r) {
				try[name], group = r, append(group, r)
			}
		}
		if len(group) == 0 {
			continue
		}
		gives := f.has.with(try)
		s.followComplete(k, f.splitOf.from, []*batch{newBatch(k, difference{send: group})}, &gives)
		s.enqueueComplete(f, response{kind: k, before: f.have, after: f.splitOf.after, gives: gives, from: f.splitOf.from})
		return true
	}
	f.splitOf = nil
	return false
}

// doubt has the Cache remember what the client has while it may be something
// else than the version says that it acknowledged last. That is not left to the
// end of the stream, since the client's next one may come before.
func (s *stream) doubt(k kind, f *feed) {
	if !s.complete(k) {
		return
	}
	offered := []layers{s.view.layers[endpoints]}
	if f.ackedAt.IsZero() {
		for _, before := range s.endpointsBefore {
			if len(offered) < rememberedOffers && !slices.Contains(offered, before) {
				offered = append(offered, before)
			}
		}
	}
	s.server.cache.past.leave(s.proxy.ID, k, f, offered)
}

// ackComplete takes it that the client has what a response gave it.
func (f *feed) ackComplete(r *response) {
	for name := range f.refused {
		if item := r.gives.get(name); item != nil {
			if old := f.has.get(name); old == nil || old.Version != item.Version {
				delete(f.refused, name)
			}
		}
	}
	f.has = r.gives
}

// nackComplete takes what a client says that rejected a complete response, and
// returns what is to blame, if that is known.
func (s *stream) nackComplete(k kind, f *feed, r *response, text string) []*translate.Resource {
	bad := blame(k, text, r.items())
	if appliedOthers(text) && len(bad) > 0 {
		f.applied(r, bad)
	} else {
		f.have = layers{} // it has been offered nothing since
	}
	if k == listeners && len(f.held) > 0 && !f.retried {
		// A listener that is still held may have the address of a new one:
		// Envoy rejects that. Take it away first, then try again.
		f.retried, f.letGo, f.have = true, true, layers{}
		return nil
	}
	f.retried = false
	if len(bad) == 0 {
		bad = f.divideComplete(r)
	} else if len(f.split) > 0 {
		f.split = f.split[1:]
	}
	for _, b := range bad {
		if f.refused == nil {
			f.refused = map[string]config.Hash{}
		}
		f.refused[b.Name] = b.Version
	}
	return bad
}

// applied notes that the client has taken a response into use but for the bad
// ones. The version that it says it has is that of what it had before, until it
// acknowledges what it has now: that is owed to it, so that it can say so when
// it reconnects.
func (f *feed) applied(r *response, bad []*translate.Resource) {
	changes := map[string]*translate.Resource{}
	for _, b := range bad {
		changes[b.Name] = f.has.get(b.Name)
		if old := changes[b.Name]; old != nil && old.Version == b.Version {
			changes[b.Name] = nil // it no longer takes what it had
		}
	}
	f.has, f.owed = r.gives.with(changes), true
}

// divideComplete prepares to find the culprit of an error that names none, by
// trying ever smaller groups beside what the client has. It returns the culprit
// when only one is left.
func (f *feed) divideComplete(r *response) []*translate.Resource {
	suspects, trusted := f.suspects(r)
	tried := len(f.split) > 0
	if tried {
		f.split = f.split[1:]
	}
	all := slices.Concat(suspects, trusted)
	switch len(all) {
	case 0:
		f.have = r.after // nothing of it is new: there is nothing to try
		return nil
	case 1:
		return []*translate.Resource{r.gives.get(all[0])}
	}
	if !tried {
		f.splitOf = r
	}
	first := len(suspects)
	if first == 0 || first == len(all) {
		first = len(all) / 2
	}
	f.split = append([][]string{all[:first], all[first:]}, f.split...)
	return nil
}

// suspects are the names of a complete response that may be to blame: what the
// client has not, and of a divided one the group that was tried. trusted are
// those among them that some other proxy has accepted.
func (f *feed) suspects(of *response) (suspects, trusted []string) {
	for _, r := range of.items() {
		if old := f.has.get(r.Name); old != nil && old.Version == r.Version {
			continue
		}
		switch {
		case len(f.split) > 0 && !slices.Contains(f.split[0], r.Name):
		case of.after.accepts(r):
			trusted = append(trusted, r.Name)
		default:
			suspects = append(suspects, r.Name)
		}
	}
	return suspects, trusted
}

// accepts reports whether some proxy is known to have accepted a resource.
func (l *layers) accepts(r *translate.Resource) bool {
	for _, x := range l {
		if i := x.index(r.Name); i >= 0 && x.items[i].Version == r.Version && x.isAccepted(i) {
			return true
		}
	}
	return false
}
