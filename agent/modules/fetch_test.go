package modules

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

func at(t *testing.T, text string) *url.URL {
	t.Helper()
	u, err := url.Parse(text)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// TestFetch: what has another checksum, or is no module, is not kept; what was
// damaged on disk is fetched again; a version is another module.
func TestFetch(t *testing.T) {
	content := []byte("\x00asm and more")
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked++
		switch r.URL.Path {
		case "/page":
			_, _ = w.Write([]byte("<html>"))
		case "/away":
			http.Error(w, "away", http.StatusNotFound)
		default:
			_, _ = w.Write(content)
		}
	}))
	defer s.Close()
	f := newFetcher(&Options{Folder: filepath.Join(t.TempDir(), "modules")})
	defer f.client.CloseIdleConnections()
	fetch := func(m *module) (string, string) {
		file, err := f.file(context.Background(), m, nil)
		if err != nil {
			return "", err.Error()
		}
		got, err := os.ReadFile(file)
		if err != nil || !bytes.Equal(got, content) {
			t.Errorf("%s holds %q, %v", file, got, err)
		}
		return file, ""
	}
	sum := sha256.Sum256(content)
	good := &module{url: at(t, s.URL+"/m"), sum: hex.EncodeToString(sum[:])}
	first, _ := fetch(good)
	again, _ := fetch(good)
	if first == "" || first != again || asked != 1 {
		t.Errorf("%q and %q after %d requests", first, again, asked)
	}
	if err := os.WriteFile(first, []byte("\x00asm damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	if file, _ := fetch(good); file != first || asked != 2 {
		t.Errorf("after damage: %q, %d requests", file, asked)
	}
	if file, _ := fetch(&module{url: good.url, version: "1"}); file == "" || file == first || asked != 3 {
		t.Errorf("another version: %q, %d requests", file, asked)
	}
	for want, m := range map[string]*module{
		"its checksum is":       {url: good.url, sum: strings.Repeat("0", 64)},
		"it is no Wasm module":  {url: at(t, s.URL+"/page")},
		"404 Not Found":         {url: at(t, s.URL+"/away")},
		`scheme "ftp"`:          {url: at(t, "ftp://a/b")},
		"invalid reference":     {url: at(t, "oci://a/B!")},
		"its pull secret is no": nil,
	} {
		if m == nil {
			if _, err := f.file(context.Background(), &module{url: at(t, "oci://127.0.0.1:1/a")}, []byte("secret")); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), `"secret"`) {
				t.Errorf("%v, want %s", err, want)
			}
			continue
		}
		if _, err := fetch(m); !strings.Contains(err, want) {
			t.Errorf("%s: %q, want %q", m.url, err, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(f.folder, "fetching-*")); left != nil {
		t.Errorf("left %v", left)
	}
}

// TestForget: a folder holds so many modules, those used last.
func TestForget(t *testing.T) {
	f := newFetcher(&Options{Folder: t.TempDir()})
	old := time.Now().Add(-time.Hour)
	for i := range maxFiles + 3 {
		file := filepath.Join(f.folder, strconv.Itoa(i)+"-x.wasm")
		if err := os.WriteFile(file, nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, old, old.Add(time.Duration(i)*time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	f.forget()
	left, _ := filepath.Glob(filepath.Join(f.folder, "*"))
	if len(left) != maxFiles {
		t.Errorf("%d files", len(left))
	}
	for _, gone := range []string{"0", "1", "2"} {
		if _, err := os.Stat(filepath.Join(f.folder, gone+"-x.wasm")); err == nil {
			t.Errorf("%s is still there", gone)
		}
	}
}
