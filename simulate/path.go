package simulate

import (
	"strings"

	hcm "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
)

// normalizePath changes a path as the connection manager's settings say. A
// reply ends the request.
func normalizePath(m *hcm.HttpConnectionManager, h *HTTP) *Reply {
	if !strings.HasPrefix(h.Path, "/") {
		return nil
	}
	path, rest := h.path(), h.Path[len(h.path()):]
	if i := strings.IndexByte(rest, '#'); i >= 0 {
		rest = rest[:i] // Envoy drops fragments
	}
	escaped := strings.Contains(strings.ToLower(path), "%2f") || strings.Contains(strings.ToLower(path), "%5c")
	if escaped {
		switch m.GetPathWithEscapedSlashesAction() {
		case hcm.HttpConnectionManager_REJECT_REQUEST:
			return &Reply{Status: 400, Reason: "the path has escaped slashes"}
		case hcm.HttpConnectionManager_UNESCAPE_AND_FORWARD:
			path = unescapeSlashes(path)
		case hcm.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
			to := unescapeSlashes(path)
			return &Reply{Status: 307, Reason: "the path has escaped slashes", Location: to + rest}
		}
	}
	if m.GetNormalizePath().GetValue() {
		path = canonicalPath(path)
	}
	if m.GetMergeSlashes() {
		path = mergeSlashes(path)
	}
	h.Path = path + rest
	return nil
}

func unescapeSlashes(p string) string {
	return strings.NewReplacer("%2f", "/", "%2F", "/", "%5c", `\`, "%5C", `\`).Replace(p)
}

// mergeSlashes leaves one of several slashes, but two of a path that has
// nothing else: Envoy puts the first and the last around what is between.
func mergeSlashes(p string) string {
	if !strings.Contains(p, "//") {
		return p
	}
	segments := strings.FieldsFunc(p, func(r rune) bool { return r == '/' })
	merged := "/" + strings.Join(segments, "/")
	if strings.HasSuffix(p, "/") {
		merged += "/"
	}
	return merged
}

// canonicalPath follows RFC 3986 section 6.2.2: escapes of unreserved
// characters are undone, dot segments resolved, and a backslash is a slash.
func canonicalPath(p string) string {
	p = unescapeUnreserved(strings.ReplaceAll(p, `\`, "/"))
	var out []string
	segments := strings.Split(p[1:], "/")
	for i, s := range segments {
		last := i == len(segments)-1
		switch s {
		case ".":
			if last {
				out = append(out, "")
			}
		case "..":
			if len(out) > 0 {
				out = out[:len(out)-1]
			}
			if last {
				out = append(out, "")
			}
		default:
			out = append(out, s)
		}
	}
	return "/" + strings.Join(out, "/")
}

func unescapeUnreserved(p string) string {
	var b strings.Builder
	for i := 0; i < len(p); i++ {
		if p[i] == '%' && i+2 < len(p) {
			hi, ok1 := hexValue(p[i+1])
			lo, ok2 := hexValue(p[i+2])
			if c := hi<<4 | lo; ok1 && ok2 && unreserved(c) {
				b.WriteByte(c)
				i += 2
				continue
			}
		}
		b.WriteByte(p[i])
	}
	return b.String()
}

func hexValue(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10, true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

func unreserved(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0
}
