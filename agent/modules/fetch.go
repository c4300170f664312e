package modules

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// Bounds of what is kept.
const (
	maxModule = 256 << 20
	maxFiles  = 32
)

// fetcher keeps modules in a folder. A file's name holds which module it is and
// the checksum of its content, so that nothing else must be kept, and nothing
// damaged is used.
type fetcher struct {
	folder string
	plain  []string
	client *http.Client
	mu     sync.Mutex // one module at a time: they are large, and often the same
}

func newFetcher(o *Options) *fetcher {
	return &fetcher{folder: o.Folder, plain: o.Plain, client: &http.Client{Transport: &http.Transport{
		Proxy: http.ProxyFromEnvironment, TLSHandshakeTimeout: 10 * time.Second, IdleConnTimeout: 10 * time.Second,
		MaxIdleConns: 2, ReadBufferSize: 16 << 10,
	}}}
}

// key is the same for modules that may share a file.
func (m *module) key() string {
	sum := sha256.Sum256([]byte(m.url.String() + "\n" + m.sum + "\n" + m.version))
	return hex.EncodeToString(sum[:16])
}

// file is where a module is, which is fetched if it is not there.
func (f *fetcher) file(ctx context.Context, m *module, credentials []byte) (string, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if file := f.kept(m); file != "" {
		return file, nil
	}
	if err := os.MkdirAll(f.folder, 0o755); err != nil { //nolint:gosec // the proxy reads it; it holds no secret
		return "", err
	}
	to, err := os.CreateTemp(f.folder, "fetching-*")
	if err != nil {
		return "", err
	}
	defer func() { _ = to.Close(); _ = os.Remove(to.Name()) }()
	sum := sha256.New()
	into := io.MultiWriter(to, sum)
	switch m.url.Scheme {
	case "http", "https":
		err = f.download(ctx, m, into)
	case "oci":
		err = f.pull(ctx, m, credentials, into)
	default:
		err = fmt.Errorf("scheme %q: want http, https or oci", m.url.Scheme)
	}
	if err != nil {
		return "", err
	}
	if err := os.Chmod(to.Name(), 0o644); err != nil { //nolint:gosec // the proxy reads it
		return "", err
	}
	name := filepath.Join(f.folder, m.key()+"-"+hex.EncodeToString(sum.Sum(nil))+".wasm")
	if err := errors.Join(to.Close(), os.Rename(to.Name(), name)); err != nil {
		return "", err
	}
	f.forget()
	return name, nil
}

// kept is the file of a module that was fetched before, or empty.
func (f *fetcher) kept(m *module) string {
	files, _ := filepath.Glob(filepath.Join(f.folder, m.key()+"-*.wasm"))
	for _, file := range files {
		_, want, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".wasm"), "-")
		if checksumOf(file) == want {
			now := time.Now()
			_ = os.Chtimes(file, now, now)
			return file
		}
		_ = os.Remove(file)
	}
	return ""
}

func checksumOf(file string) string {
	in, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer func() { _ = in.Close() }()
	sum := sha256.New()
	if _, err := io.Copy(sum, in); err != nil {
		return ""
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// forget removes the files that were not used for longest. Envoy has read what
// it uses.
func (f *fetcher) forget() {
	files, _ := filepath.Glob(filepath.Join(f.folder, "*.wasm"))
	if len(files) <= maxFiles {
		return
	}
	used := map[string]time.Time{}
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			used[file] = info.ModTime()
		}
	}
	slices.SortFunc(files, func(a, b string) int {
		return cmp.Or(used[b].Compare(used[a]), strings.Compare(a, b))
	})
	for _, file := range files[maxFiles:] {
		_ = os.Remove(file)
	}
}

func (f *fetcher) download(ctx context.Context, m *module, into io.Writer) error {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url.String(), nil)
	if err != nil {
		return err
	}
	resp, err := f.client.Do(r)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	// The checksum is that of what comes, also of an archive.
	sum := sha256.New()
	body := io.TeeReader(resp.Body, sum)
	if err := unpack(body, into); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, io.LimitReader(body, maxModule)); err != nil {
		return err
	}
	if got := hex.EncodeToString(sum.Sum(nil)); m.sum != "" && got != m.sum {
		return fmt.Errorf("its checksum is %s, want %s", got, m.sum)
	}
	return nil
}
