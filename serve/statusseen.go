package serve

import (
	"encoding/json"
	"sync"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// seenStatuses are what the objects' status says of ours, as the watches bring
// it. Without it a leader that begins would have to read every object once.
type seenStatuses struct {
	mu sync.Mutex
	of map[config.Key]config.Hash
}

func newSeenStatuses() *seenStatuses { return &seenStatuses{of: map[config.Key]config.Hash{}} }

// saw notes an object's status as it was read; nil for one that has gone.
func (s *seenStatuses) saw(key config.Key, text []byte) {
	var has struct {
		objectStatus
		Conditions []json.RawMessage `json:"conditions"`
	}
	known := len(text) > 0 && json.Unmarshal(text, &has) == nil
	s.mu.Lock()
	defer s.mu.Unlock()
	if !known {
		delete(s.of, key)
		return
	}
	for _, raw := range has.Conditions {
		var c condition
		if json.Unmarshal(raw, &c) == nil && (c.Type == reconciled || c.Type == passedValidation) {
			has.objectStatus.Conditions = append(has.objectStatus.Conditions, c)
		}
	}
	s.of[key] = has.objectStatus.identity()
}

// says reports whether an object's status is known to say just that.
func (s *seenStatuses) says(key config.Key, want *objectStatus) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	has, known := s.of[key]
	return known && has == want.identity()
}

// identity is that of what a status says, but for times and the order of its
// conditions.
func (s *objectStatus) identity() config.Hash {
	h := config.NewHasher().Uint(uint64(s.ObservedGeneration)).Uint(uint64(len(s.Conditions)))
	for _, name := range []string{reconciled, passedValidation} {
		for i := range s.Conditions {
			if c := &s.Conditions[i]; c.Type == name {
				h.Str(c.Type, c.Status, c.Reason, c.Message).Uint(uint64(c.ObservedGeneration))
			}
		}
	}
	h.Uint(uint64(len(s.ValidationMessages)))
	for _, m := range s.ValidationMessages {
		h.Str(m.Type.Name, m.Type.Code, m.Level)
	}
	return h.Sum()
}
