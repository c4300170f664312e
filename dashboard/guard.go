package dashboard

import (
	"crypto/sha256"
	"encoding/hex"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"path"
	"slices"
	"strings"
)

// contentPolicy lets the page load nothing but itself: no inline script or
// style, no other origin, no frame around it.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// Guard keeps other web sites out of whatever is served to the browser's own
// machine. A site that makes its own name resolve to this machine (DNS
// rebinding) is refused by the Host header, one that sends a form or a script's
// request to ours by where the browser says that it comes from. The names in
// hosts, without port, are answered besides localhost and loopback addresses.
// A Page is guarded already; what shares its address needs it too.
func Guard(hosts []string, next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", contentPolicy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		if !allowedHost(r.Host, hosts) {
			http.Error(w, "This page answers to localhost only; the request was for "+strings.ToValidUTF8(r.Host, "?")+".",
				http.StatusMisdirectedRequest)
			return
		}
		// Other sites' scripts cannot read answers, but need not cause them.
		if site := r.Header.Get("Sec-Fetch-Site"); site == "cross-site" && r.Header.Get("Sec-Fetch-Mode") != "navigate" {
			http.Error(w, "Requests from other sites are not answered.", http.StatusForbidden)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func allowedHost(host string, more []string) bool {
	name := host
	if h, _, err := net.SplitHostPort(host); err == nil {
		name = h
	}
	name = strings.ToLower(strings.TrimSuffix(strings.Trim(name, "[]"), "."))
	if name == "localhost" || strings.HasSuffix(name, ".localhost") || slices.Contains(more, name) {
		return true
	}
	ip, err := netip.ParseAddr(name)
	return err == nil && ip.IsLoopback()
}

// serveAssets serves the built page. Browsers ask each time and are told that
// they have it already: a new binary is seen at once.
func serveAssets(assets fs.FS) http.Handler {
	files := http.FileServerFS(assets)
	tags := map[string]string{}
	_ = fs.WalkDir(assets, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := fs.ReadFile(assets, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		tags[name] = `"` + hex.EncodeToString(sum[:8]) + `"`
		return nil
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		name := strings.TrimPrefix(path.Clean("/"+r.URL.Path), "/")
		if name == "" {
			name = "index.html"
		}
		tag, ok := tags[name]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Etag", tag)
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
