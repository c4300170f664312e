package snapshot

import (
	"context"
	"maps"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Times of the question whether a proxy may have a secret.
const (
	// accessTimeout bounds how long a stream's requests wait for an answer.
	accessTimeout = 2 * time.Second
	// accessEvery is after how long it is asked again: rights can be taken away.
	accessEvery = time.Minute
	// accessRetry is the same where there was no answer.
	accessRetry = 2 * time.Second
	// maxAccess is the most names that one stream can ask about.
	maxAccess = 1000
)

// access is what a stream knows about the secrets that its proxy may have.
// Guarded by the stream's mu.
type access struct {
	may map[string]bool // by resource name; false also without an answer
	// checked is when all of may was asked for last, unknown that some answer
	// is missing.
	checked  time.Time
	unknown  bool
	checking bool

	// readable is the part of the set of that may be read. It is kept, since
	// secretShelf knows sets by their address.
	of, readable *names
}

// permit finds out which of the secrets that a request names the proxy may
// have. It may wait for the API server, so s.mu must not be held.
func (s *stream) permit(asked []string) {
	if s.grant.MayRead == nil {
		return
	}
	s.mu.Lock()
	var fresh []string
	for _, name := range asked {
		if _, known := s.access.may[name]; !known && len(s.access.may)+len(fresh) < maxAccess {
			fresh = append(fresh, strings.Clone(name)) // it points into the request
		}
	}
	s.mu.Unlock()
	if len(fresh) > 0 {
		s.learn(s.wire.Context(), fresh, false)
	}
}

// learn asks about secrets, some more or all anew, and takes in the answers.
func (s *stream) learn(ctx context.Context, list []string, anew bool) {
	ctx, cancel := context.WithTimeout(ctx, accessTimeout)
	defer cancel()
	may, unknown := map[string]bool{}, false
	for _, name := range list {
		ok, err := s.mayRead(ctx, name)
		may[name] = ok && err == nil
		unknown = unknown || err != nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.access.may
	if !anew {
		unknown = unknown || s.access.unknown
		maps.Insert(may, maps.All(before))
	}
	if anew || s.access.checked.IsZero() {
		s.access.checked = time.Now()
	}
	s.access.may, s.access.unknown = may, unknown
	if !maps.Equal(before, may) {
		s.access.of, s.access.readable = nil, nil
	}
}

func (s *stream) mayRead(ctx context.Context, resource string) (bool, error) {
	namespace, secrets, guarded := translate.SecretsOf(resource, s.proxy.Namespace)
	if !guarded {
		return true, nil
	}
	for _, name := range secrets {
		ok, err := s.grant.MayRead(ctx, namespace, name)
		if ok || err != nil {
			return ok, err
		}
	}
	return false, nil
}

// allowed is the part of the secrets asked for that the proxy may have. s.mu is
// held.
func (s *stream) allowed() *names {
	only := s.feeds[secrets].only
	if s.grant.MayRead == nil {
		return only
	}
	if s.access.of != only || s.access.readable == nil {
		var list []string
		for _, name := range only.all() {
			if s.access.may[name] {
				list = append(list, name)
			}
		}
		s.access.of, s.access.readable = only, s.names().of(list)
	}
	return s.access.readable
}

// recheck asks again about secrets whose answers are old. It does not block.
// s.mu is held.
func (s *stream) recheck(now time.Time) {
	every := accessEvery
	if s.access.unknown {
		every = accessRetry
	}
	if s.gone || s.access.checking || s.grant.MayRead == nil || s.access.checked.IsZero() || now.Sub(s.access.checked) < every {
		return
	}
	s.access.checking = true
	list := s.feeds[secrets].only.all()
	s.server.served.Go(func() {
		s.learn(s.wire.Context(), list, true)
		s.mu.Lock()
		s.access.checking = false
		s.mu.Unlock()
		s.kick()
	})
}
