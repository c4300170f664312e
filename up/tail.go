package up

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"sync"
)

// tail keeps the last lines that a process wrote, over its restarts.
type tail struct {
	mu    sync.Mutex // guards what follows
	lines []string   // a ring: the oldest at next once it is full
	next  int
}

const (
	tailLines     = 500
	tailLineBytes = 4096
)

// pipe returns the end of a new pipe that a process running as a user is to
// write to. The caller closes it after the start. drained is closed when
// everything was read and nobody holds that end.
func (t *tail) pipe(as user) (w *os.File, drained chan struct{}, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, nil, err
	}
	if as.id != 0 { // /dev/stdout must open for its user
		if err := w.Chown(int(as.id), int(as.id)); err != nil {
			_, _ = r.Close(), w.Close()
			return nil, nil, fmt.Errorf("output pipe: %w", err)
		}
	}
	drained = make(chan struct{})
	go func() {
		defer close(drained)
		defer func() { _ = r.Close() }()
		t.read(r)
	}()
	return w, drained, nil
}

func (t *tail) read(r io.Reader) {
	br := bufio.NewReaderSize(r, tailLineBytes)
	for {
		line, partial, err := br.ReadLine()
		if err != nil {
			return
		}
		text := string(line)
		for partial && err == nil { // drop what is beyond
			_, partial, err = br.ReadLine()
		}
		t.add(text)
	}
}

func (t *tail) add(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) < tailLines {
		t.lines = append(t.lines, line)
		return
	}
	t.lines[t.next] = line
	t.next = (t.next + 1) % tailLines
}

// last returns up to n lines, the oldest first.
func (t *tail) last(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := append(append([]string(nil), t.lines[t.next:]...), t.lines[:t.next]...)
	return all[max(0, len(all)-n):]
}
