package snapshot

import (
	"slices"
	"strings"

	rpc "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// nack takes the client's rejection of a response. What the client names is
// not sent to it again; what it does not name but may have dropped with the
// rest is.
func (s *stream) nack(k kind, f *feed, r *response, detail *rpc.Status) {
	text := detail.GetMessage()
	told := s.server.options.Redact(text)
	f.lastError = told
	s.server.metrics.rejected(k, s.proxy, detail)
	items := r.items()
	if len(items) == 0 {
		return
	}
	var bad []*translate.Resource
	if s.complete(k) {
		bad = s.nackComplete(k, f, r, text)
		s.doubt(k, f)
	} else {
		bad = s.nackPart(k, f, r, text)
	}
	switch {
	case k != clusters:
	case appliedOthers(text):
		s.cool(bad)
	default:
		s.cool(items) // those that are sent again will be waited for again
	}
	if len(bad) > 0 {
		s.judging++
		s.server.cache.reject(s.seat, k, bad, told, func() {
			s.mu.Lock()
			s.judging--
			s.mu.Unlock()
			s.kick()
		})
	}
}

// nackPart is nack for a response that says nothing about what is not in it. It
// returns what is to blame, if that is known.
func (s *stream) nackPart(k kind, f *feed, r *response, text string) []*translate.Resource {
	items := r.items()
	if k == listeners && len(f.held) > 0 && !f.retried {
		// A listener that is still held may have the address of a new one:
		// Envoy rejects that. Take it away first, then try again.
		f.retried = true
		s.retry(f, items)
		return nil
	}
	f.retried = false
	bad := blame(k, text, items)
	if len(bad) == 0 {
		bad = f.divide(items)
	} else if len(f.split) > 0 {
		f.split = f.split[1:]
	}
	switch {
	case appliedOthers(text):
		f.took(items, bad)
	case len(bad) > 0:
		s.again(f, items, bad)
	}
	for _, b := range bad {
		if f.wants(b.Name) { // it may have unsubscribed meanwhile
			f.refuse(b, &r.before)
		}
	}
	return bad
}

// refuse notes that the client rejects a resource. before is what it had.
func (f *feed) refuse(b *translate.Resource, before *layers) {
	// What it was offered before is the very same for one that has just come.
	if old := before.get(b.Name); old != nil && old.Version != b.Version {
		f.keep(b.Name, before)
	}
	if f.refused == nil {
		f.refused = map[string]config.Hash{}
	}
	f.refused[b.Name] = b.Version
}

// keep remembers what the client has of a name, if it is known.
func (f *feed) keep(name string, before *layers) {
	old := before.get(name)
	if old == nil || f.refuses(old) || f.kept[name] != nil {
		return
	}
	if f.kept == nil {
		f.kept = map[string]*translate.Resource{}
	}
	f.kept[name] = old
}

// items are a response's resources.
func (r *response) items() []*translate.Resource {
	if len(r.pieces) == 1 {
		return r.pieces[0].items
	}
	var out []*translate.Resource
	for _, p := range r.pieces {
		out = append(out, p.items...)
	}
	return out
}

// retry takes away what is held and sends the items again.
func (s *stream) retry(f *feed, items []*translate.Resource) {
	removal := &response{kind: listeners, version: s.version(listeners)}
	for _, h := range f.held {
		removal.removed = append(removal.removed, h.Name)
	}
	f.queue = append(f.queue, removal)
	for _, h := range f.held {
		f.pardon(h.Name)
	}
	f.held = nil
	s.again(f, items, nil)
}

// again has items sent once more, without the bad ones.
func (s *stream) again(f *feed, items, bad []*translate.Resource) {
	var list []string
	for _, r := range items {
		if !slices.Contains(bad, r) {
			list = append(list, r.Name)
		}
	}
	f.force = s.names().with(f.force, list)
}

// blame finds the resources that an error names. Envoy's text for clusters
// and listeners lists "name: reason"; for other kinds it may name none.
func blame(k kind, text string, items []*translate.Resource) []*translate.Resource {
	if len(items) == 1 {
		return items
	}
	var out []*translate.Resource
	for _, r := range items {
		if mentions(k, text, r.Name) {
			out = append(out, r)
		}
	}
	return out
}

// mentions reports whether an error's text names a resource: the name stands
// alone, and before a colon or in quotes unless the kind's names are long
// enough not to be found by chance.
func mentions(k kind, text, name string) bool {
	for rest := text; ; {
		i := strings.Index(rest, name)
		if i < 0 || name == "" {
			return false
		}
		before, after := byte(' '), byte(' ')
		if i > 0 {
			before = rest[i-1]
		}
		if end := i + len(name); end < len(rest) {
			after = rest[end]
		}
		quoted := (before == '\'' || before == '"') && after == before
		listed := strings.IndexByte(" ,\n\t", before) >= 0 && after == ':'
		if quoted || listed && k.whole() {
			return true
		}
		rest = rest[i+1:]
	}
}

// appliedOthers reports whether Envoy has taken the rest of the response into
// use: CDS and LDS take resources one by one and then report those that
// failed. A message that does not decode or validate is dropped whole.
func appliedOthers(text string) bool { return strings.HasPrefix(text, "Error adding/updating ") }

// divide prepares to find the culprit of an error that names none, by sending
// ever smaller groups. It returns the culprit when only one is left.
func (f *feed) divide(items []*translate.Resource) (bad []*translate.Resource) {
	if len(f.split) > 0 {
		f.split = f.split[1:]
	}
	if len(items) < 2 {
		return items
	}
	list := make([]string, len(items))
	for i, item := range items {
		list[i] = item.Name
	}
	half := len(list) / 2
	f.split = append([][]string{list[:half], list[half:]}, f.split...)
	return nil
}
