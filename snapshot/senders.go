package snapshot

import (
	"runtime"
	"sync"
)

// senders are the goroutines that look at streams which others have claimed: as
// many at once as there are processors, and none when there is nothing to do. A
// change that concerns a thousand streams is on its way to the first of them
// while the last ones are still to be looked at: were each looked at by a
// goroutine of its own, their connections' writers would stand in line behind
// all of these.
type senders struct {
	mu      sync.Mutex
	waiting []*stream // in the order of claims
	running int
}

// add has a stream looked at that the caller has claimed.
func (q *senders) add(s *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, s)
	if q.running < runtime.GOMAXPROCS(0) {
		q.running++
		go q.run()
	}
}

func (q *senders) run() {
	for {
		q.mu.Lock()
		if len(q.waiting) == 0 {
			q.running--
			q.mu.Unlock()
			return
		}
		s := q.waiting[0]
		q.waiting[0] = nil
		if q.waiting = q.waiting[1:]; len(q.waiting) == 0 {
			q.waiting = nil
		}
		q.mu.Unlock()
		s.turn()
		runtime.Gosched() // the connection's writer
	}
}
