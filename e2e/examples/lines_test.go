package examples

import (
	"bytes"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/pilotfish-mesh/pilotfish/e2e/envoytest"
	"github.com/pilotfish-mesh/pilotfish/e2e/stage"
	"github.com/pilotfish-mesh/pilotfish/up"
)

// A line is a command that an example's text offers to its readers, and what
// the text says comes of it: "# 200 from httpbin", or a text that is shown.
type line struct{ command, want string }

var (
	commandLine = regexp.MustCompile(`^#   ((?:curl|openssl) .*?)(?:\s+# (.*))?$`)
	wantLine    = regexp.MustCompile(`^#\s+# (.*)$`)
	statusWant  = regexp.MustCompile(`^(\d{3})(?: from ([a-z0-9-]+))?(?:$|[,: ])`)
	answeredBy  = regexp.MustCompile(`(?m)^\{"workload":"([^"]+)"`)
	variable    = regexp.MustCompile(`(?m)^# ([A-Z]+=\S+)$`)
)

// linesOf are the commands in a file's comments, and what variables stand there.
func linesOf(t *testing.T, path string) (lines []line, variables []string) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for l := range strings.Lines(string(text)) {
		l = strings.TrimRight(l, "\n")
		if m := commandLine.FindStringSubmatch(l); m != nil {
			lines = append(lines, line{m[1], m[2]})
		} else if m := wantLine.FindStringSubmatch(l); m != nil && len(lines) > 0 && lines[len(lines)-1].want == "" {
			lines[len(lines)-1].want = m[1]
		}
	}
	for _, l := range lines {
		if l.want == "" {
			t.Errorf("%s: %s: the text does not say what comes of it", path, l.command)
		}
	}
	for _, m := range variable.FindAllStringSubmatch(string(text), -1) {
		variables = append(variables, m[1])
	}
	return lines, variables
}

// reader follows the text of a running example.
type reader struct {
	*stage.Stage
	t     *testing.T
	lines []line // that are still to be tried
	env   []string
}

// read starts a copy of an example whose text is in file.
func read(t *testing.T, example, file string, prepare func(dir string)) *reader {
	t.Helper()
	for _, tool := range []string{"curl", "openssl"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatal(err)
			}
			t.Skip(err)
		}
	}
	s := runWith(t, example, up.Options{Mode: up.Loopback, PageAddress: "127.0.0.1:0"}, prepare)
	page, err := url.Parse(s.PageURL())
	if err != nil {
		t.Fatal(err)
	}
	r := &reader{Stage: s, t: t}
	lines, variables := linesOf(t, filepath.Join(s.Dir, file))
	home := t.TempDir()
	// What a reader sees, then on a line of its own the status.
	if err := os.WriteFile(filepath.Join(home, ".curlrc"), []byte("silent\nshow-error\nmax-time = 20\nwrite-out = \"\\n%{http_code}\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r.lines = lines
	r.env = append(os.Environ(), append(variables, "CURL_HOME="+home, "MESH="+page.Host)...)
	for _, g := range s.Gateways() {
		if address := g.URL(); strings.HasPrefix(address, "http:") {
			r.env = append(r.env, "GATEWAY="+address)
		}
	}
	return r
}

// next tries the next n lines of the text, all that are left if n is 0. What
// the text says may take a moment to come true after an edit.
func (r *reader) next(n int) {
	r.t.Helper()
	if n == 0 {
		n = len(r.lines)
	}
	if n == 0 || n > len(r.lines) {
		r.t.Fatalf("%d lines are left of the text, want %d", len(r.lines), n)
	}
	for _, l := range r.lines[:n] {
		envoytest.Eventually(r.t, stage.Patience, func() string { return r.wrong(l) })
	}
	r.lines = r.lines[n:]
}

func (r *reader) wrong(l line) string {
	cmd := exec.CommandContext(r.t.Context(), "sh", "-c", l.command)
	cmd.Env, cmd.Dir = r.env, r.Dir
	out, err := cmd.CombinedOutput()
	shown := out[max(0, len(out)-2000):] // the end tells most
	m := statusWant.FindStringSubmatch(l.want)
	if m == nil || !strings.HasPrefix(l.command, "curl") {
		if want := strings.Split(l.want, ", or ")[0]; !bytes.Contains(out, []byte(want)) && !(want == "Empty reply" && bytes.Contains(out, []byte("reset by peer"))) {
			return fmt.Sprintf("%s: %v, want %q:\n%s", l.command, err, want, shown)
		}
		return ""
	}
	status, by := string(out[bytes.LastIndexByte(out, '\n')+1:]), ""
	if answer := answeredBy.FindSubmatch(out); answer != nil {
		by = string(answer[1])
	}
	if status != m[1] || by != m[2] {
		return fmt.Sprintf("%s: %s from %q, want %s from %q\n%s", l.command, status, by, m[1], m[2], shown)
	}
	return ""
}

// TestTexts tries what the texts of examples say about them.
func TestTexts(t *testing.T) {
	for example, file := range map[string]string{
		"ingress-access": "ingress.yaml", "jwt-workload": "tokens.yaml", "minimum-tls": "mesh.yaml", "jwt": "tokens.yaml",
	} {
		t.Run(example, func(t *testing.T) { read(t, example, file, nil).next(0) })
	}
}
