package main

import (
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/pilotfish-mesh/pilotfish/rollout"
)

// rolloutDisplay shows a rollout: on a terminal with a line that keeps up with
// it, elsewhere by lines alone.
type rolloutDisplay struct {
	to    io.Writer
	width func() int // nil: no terminal
	shown bool       // the live line is there
}

func newRolloutDisplay(to io.Writer) *rolloutDisplay {
	d := &rolloutDisplay{to: to}
	file, ok := to.(*os.File)
	if ok && os.Getenv("CI") == "" && term.IsTerminal(int(file.Fd())) {
		d.width = func() int {
			if w, _, err := term.GetSize(int(file.Fd())); err == nil && w > 0 {
				return w
			}
			return 80
		}
	}
	return d
}

// show is a rollout's Progress.
func (d *rolloutDisplay) show(e rollout.Event) {
	if !e.Tick {
		d.clear()
		_, _ = fmt.Fprintf(d.to, "%s %s%s\n", e.Time.UTC().Format("15:04:05"), stepOf(e), e.Message)
		return
	}
	if d.width == nil {
		return
	}
	d.clear()
	line := fmt.Sprintf("%s %s%s", bar(e), stepOf(e), e.Message)
	if r, w := []rune(line), d.width()-1; len(r) > w {
		line = string(r[:w])
	}
	_, _ = io.WriteString(d.to, line)
	d.shown = true
}

// clear removes the live line.
func (d *rolloutDisplay) clear() {
	if d.shown {
		_, _ = io.WriteString(d.to, "\r\x1b[K")
		d.shown = false
	}
}

func stepOf(e rollout.Event) string {
	if e.Stage == 0 {
		return ""
	}
	return fmt.Sprintf("step %d/%d (%d%%): ", e.Stage, e.Stages, e.Percent)
}

// bar is how much of the interval has passed.
func bar(e rollout.Event) string {
	const cells = 20
	n := 0
	if e.Interval > 0 {
		n = int(cells * e.Watched / e.Interval)
	}
	return "[" + strings.Repeat("=", n) + strings.Repeat(" ", cells-n) + "]"
}
