package file

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// What is no file and no folder is told, and not waited for; so are links to
// nothing. Links that lead around in a circle end.
func TestSpecialFiles(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	if err := os.MkdirAll("a/b", 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile("a/b/x.yaml", []byte("apiVersion: v1\nkind: Service\nmetadata: {name: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for link, to := range map[string]string{
		"a/b/up": "..", "a/gone.yaml": "nowhere.yaml", "a/gone": "nowhere", "a/self.yaml": "self.yaml", "a/.lock.yaml": "nowhere",
	} {
		if err := os.Symlink(to, link); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo("a/fifo.yaml", 0o600); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo("a/other", 0o600); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", "a/socket.json")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = socket.Close() })
	for path, want := range map[string][]string{
		"a": {
			"a/fifo.yaml: error: cannot be read: it is a named pipe, not a file (Unreadable)",
			"a/gone.yaml: error: cannot be read: it is a link to nowhere.yaml, which does not exist (Unreadable)",
			"a/self.yaml: error: cannot be read: too many levels of symbolic links (Unreadable)",
			"a/socket.json: error: cannot be read: it is a socket, not a file (Unreadable)",
		},
		"a/fifo.yaml":   {"a/fifo.yaml: error: cannot be read: it is a named pipe, not a file (Unreadable)"},
		"a/socket.json": {"a/socket.json: error: cannot be read: it is a socket, not a file (Unreadable)"},
		"/dev/zero":     {"/dev/zero: error: cannot be read: it is a device, not a file (Unreadable)"},
	} {
		texts, problems, err := ReadTexts(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range problems {
			got = append(got, p.String())
		}
		if strings.Join(got, "\n") != strings.Join(want, "\n") {
			t.Errorf("%s:\n%s\nwant\n%s", path, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
		if path == "a" && (len(texts) != 1 || texts[0].Name != filepath.Join("a", "b", "x.yaml")) {
			t.Errorf("texts %v", texts)
		}
	}
}
