package weightfile

import (
	"context"
	"sync"
)

// Files writes edits, one at a time, so that of two edits of one state only
// one is made. The zero value is ready.
type Files struct{ mu sync.Mutex }

// WriteWeights is Write. It does not wait for anything that ctx could end.
func (f *Files) WriteWeights(_ context.Context, e Edit) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return Write(e)
}
