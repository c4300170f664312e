package simulate

import (
	"fmt"
	"regexp"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	uritemplate "github.com/envoyproxy/go-control-plane/envoy/extensions/path/match/uri_template/v3"
)

// pathTemplate is why a path is not one of a template, or "".
func (a *access) pathTemplate(t *core.TypedExtensionConfig) string {
	if a.http == nil {
		return "a connection has no path"
	}
	template, ok := a.template(t)
	if !ok {
		a.hop.unknown("path template " + t.GetName())
		return ""
	}
	path := a.http.path()
	return yes(matchTemplate(template, path), fmt.Sprintf("path %q is not one of %s", path, template))
}

func (a *access) template(t *core.TypedExtensionConfig) (template string, ok bool) {
	m, err := a.config.unpack(t.GetTypedConfig())
	match, ok := m.(*uritemplate.UriTemplateMatchConfig)
	return match.GetPathTemplate(), err == nil && ok
}

// pathLiteral are the characters that operators of a template take besides
// slashes (RFC 3986 pchar).
const pathLiteral = `[a-zA-Z0-9\-._~%!$&'()+,;:@=*]`

var templateOperator = regexp.MustCompile(`\*\*?`)

// matchTemplate: "*" is one segment, "**" any number of them
// (envoy extensions.path.match.uri_template.v3 UriTemplateMatchConfig).
func matchTemplate(template, path string) bool {
	var b strings.Builder
	rest := template
	for {
		at := templateOperator.FindStringIndex(rest)
		if at == nil {
			break
		}
		b.WriteString(regexp.QuoteMeta(rest[:at[0]]))
		if at[1]-at[0] == 2 {
			b.WriteString(`(?:` + pathLiteral + `|/)*`)
		} else {
			b.WriteString(pathLiteral + `+`)
		}
		rest = rest[at[1]:]
	}
	re, err := regexp.Compile("^" + b.String() + regexp.QuoteMeta(rest) + "$")
	return err == nil && re.MatchString(path)
}
