package dashboard

import (
	"bytes"
	"encoding/json"
	"sync"
)

// feed is what all open pages are told: the newest content of each section,
// and the seconds of traffic that are kept. Content is encoded once; each
// reader takes what it has not seen when it is ready to, so that a slow one
// skips versions instead of queueing them.
type feed struct {
	mu       sync.Mutex
	sections map[string]section
	seconds  []json.RawMessage
	last     uint64        // number of the newest second, counted from 1
	changed  chan struct{} // closed at the next change
	closed   bool
	readers  int
}

type section struct {
	version uint64
	body    []byte
}

// sectionOrder is the order in which a new reader gets the sections: routes
// give the traffic its meaning.
var sectionOrder = []string{"routes", "proxies", "problems", "changes"}

// keptSeconds bounds the history of traffic.
const keptSeconds = 600

func newFeed() *feed {
	return &feed{sections: map[string]section{}, changed: make(chan struct{})}
}

// update publishes one step. A section whose content is as before changes
// nothing.
func (f *feed) update(sections map[string][]byte, seconds []json.RawMessage) {
	f.mu.Lock()
	defer f.mu.Unlock()
	news := len(seconds) > 0
	for name, body := range sections {
		if old := f.sections[name]; !bytes.Equal(old.body, body) {
			f.sections[name] = section{old.version + 1, body}
			news = true
		}
	}
	f.last += uint64(len(seconds))
	f.seconds = append(f.seconds, seconds...)
	if extra := len(f.seconds) - keptSeconds; extra > 0 {
		f.seconds = append([]json.RawMessage(nil), f.seconds[extra:]...)
	}
	if news && !f.closed {
		close(f.changed)
		f.changed = make(chan struct{})
	}
}

// close ends all readers.
func (f *feed) close() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if !f.closed {
		f.closed = true
		close(f.changed)
	}
}

// enter counts a reader, up to limit, and reports whether it may stay.
func (f *feed) enter(limit int) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed || f.readers >= limit {
		return false
	}
	f.readers++
	return true
}

func (f *feed) leave() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.readers--
}

func (f *feed) watched() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.readers > 0
}

// cursor is how far one reader is.
type cursor struct {
	versions map[string]uint64
	second   uint64
	fresh    bool // has no seconds yet
}

// event is one message to a reader.
type event struct {
	name string
	id   uint64 // of the newest second in it; 0 for sections
	body []byte
}

// next returns what c has not seen and moves it on, with the channel that is
// closed at the next change, or open false once the feed has ended.
func (f *feed) next(c *cursor) (events []event, changed <-chan struct{}, open bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, name := range sectionOrder {
		if s := f.sections[name]; s.version > c.versions[name] {
			c.versions[name] = s.version
			events = append(events, event{name: name, body: s.body})
		}
	}
	first := f.last - uint64(len(f.seconds)) // the number before the oldest kept
	if c.fresh || c.second < f.last || c.second > f.last {
		reset := c.fresh || c.second < first || c.second > f.last
		from := max(c.second, first)
		if reset {
			from = first
		}
		events = append(events, event{name: "traffic", id: f.last, body: trafficBody(f.seconds[from-first:], reset)})
		c.second, c.fresh = f.last, false
	}
	return events, f.changed, !f.closed
}

// trafficBody is {"reset":…,"seconds":[…]}; reset tells the page to forget what
// it has.
func trafficBody(seconds []json.RawMessage, reset bool) []byte {
	var b bytes.Buffer
	b.WriteString(`{"reset":`)
	if reset {
		b.WriteString("true")
	} else {
		b.WriteString("false")
	}
	b.WriteString(`,"seconds":[`)
	for i, s := range seconds {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(s)
	}
	b.WriteString("]}")
	return b.Bytes()
}
