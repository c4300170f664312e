package meshtest

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pilotfish-mesh/pilotfish/config"
	"github.com/pilotfish-mesh/pilotfish/simulate"
	"github.com/pilotfish-mesh/pilotfish/translate"
)

// Finding is something that is wrong with a configuration, or probably is.
type Finding struct {
	config.Problem
	// Aliases are the codes under which other tools report it: IST0101, KIA0202.
	Aliases []string `json:"aliases,omitempty"`
	// Witness is a request that shows it, as arguments of ask.
	Witness string `json:"witness,omitempty"`
	// Fix is a change that mends it without changing what works; nil without.
	Fix *Fix `json:"fix,omitempty"`
	// Ignored is the reason for which it is not reported.
	Ignored string `json:"ignored,omitempty"`
}

// Lint finds everything that is wrong with a configuration: within one
// object, between objects, and in what is made of them for each proxy.
func Lint(w *simulate.World) []Finding {
	m := w.Mesh
	var list []config.Problem
	list = append(list, m.Problems...)
	list = append(list, w.Index.Problems()...)
	made := everyResources(w)
	for _, r := range made {
		list = append(list, r.Problems...)
	}
	list = append(list, translate.UnmatchedPatches(made)...)
	for _, find := range []func(*config.Mesh) []config.Problem{
		portsWithoutProtocol, serversNotVerified, retriesOfWrites, wrongAnnotations, contraryInjection,
		callersUnknown, portsNotExposed, sharedCertificates, claimsWithoutTokens,
	} {
		list = append(list, find(m)...)
	}
	config.SortProblems(list)
	list = slices.Compact(list)
	out := make([]Finding, 0, len(list))
	for _, p := range list {
		if maybeElsewhere(m, &p) {
			p.Severity = config.Info
		}
		f := Finding{Problem: p, Aliases: aliasesOf(&p), Fix: fixOf(&p)}
		if p.Code == "RouteShadowed" {
			f.Witness = shadowWitness(w, &p)
		}
		out = append(out, f)
	}
	return out
}

// maybeElsewhere says whether what a problem misses is of a sort that is seldom
// kept with the rest, and of which the configuration has nothing.
func maybeElsewhere(m *config.Mesh, p *config.Problem) bool {
	switch p.Code {
	case "SecretNotFound":
		return m.Secrets.Len() == 0
	case "CredentialUnusable":
		return m.Secrets.Len() == 0 && strings.Contains(p.Message, "does not exist")
	case "ProviderNotFound": // of a MeshConfig
		return m.Settings.Name == ""
	case "HostNotFound": // of Istio's installation, such as an egress gateway
		root := m.RootNamespace()
		return strings.Contains(p.Message, "."+root+".svc.") && len(m.Services.In(root)) == 0
	}
	return false
}

// everyResources are those of every class of proxies.
func everyResources(w *simulate.World) []*translate.Resources {
	w.Prepare()
	var out []*translate.Resources
	seen := map[*simulate.Part]bool{}
	for _, p := range w.Pods() {
		c := w.Config(p)
		if c == nil {
			continue
		}
		for _, part := range c.Parts() {
			if !seen[part] {
				seen[part] = true
				out = append(out, part.Resources())
			}
		}
	}
	return out
}

// Ignore keeps findings from being reported.
type Ignore struct {
	Code   string `yaml:"code" json:"code"`     // a code or an alias; "*" for all
	Object string `yaml:"object" json:"object"` // namespace/name, or empty for any
	File   string `yaml:"file" json:"file"`     // its end, or empty for any
	Line   int    `yaml:"-" json:"line"`        // of a comment: this line and the next
	Reason string `yaml:"reason" json:"reason"`
	Until  string `yaml:"until" json:"until"` // 2026-12-31, or empty for ever
	// At is where the ignore itself stands.
	At string `yaml:"-" json:"-"`
}

var ignoreComment = regexp.MustCompile(`#\s*pilotfish:ignore\s+(\S+)(?:\s+until=(\S+))?(?:\s+(.*))?$`)

// IgnoresIn reads the comments of a file: "# pilotfish:ignore CODE
// [until=DATE] reason", on the line of a finding or the one before. above are
// the lines of the file before the text.
func IgnoresIn(file string, above int, text string) []Ignore {
	var out []Ignore
	n := above
	for line := range strings.Lines(text) {
		n++
		if m := ignoreComment.FindStringSubmatch(strings.TrimRight(line, "\r\n")); m != nil {
			out = append(out, Ignore{
				Code: m[1], File: file, Line: n, Until: m[2], Reason: strings.TrimSpace(m[3]), At: fmt.Sprintf("%s:%d", file, n),
			})
		}
	}
	return out
}

// Apply marks the findings that are ignored. What is wrong with the ignores
// themselves, such as an expiry that has passed, is reported in their place.
func Apply(findings []Finding, ignores []Ignore, today time.Time) []Finding {
	for i := range ignores {
		ig := &ignores[i]
		if why := ig.fault(today); why != "" {
			i := strings.LastIndexByte(ig.At, ':')
			file, line := ig.At[:i], ig.At[i+1:]
			n := 1
			_, _ = fmt.Sscanf(line, "%d", &n)
			findings = append(findings, Finding{Problem: config.Problem{
				Severity: config.Warning, Code: "IgnoreInvalid", Message: why, File: file, Line: n,
			}})
			continue
		}
		for j := range findings {
			if f := &findings[j]; ig.covers(f) {
				f.Ignored = ig.Reason
			}
		}
	}
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if n := strings.Compare(a.File, b.File); n != 0 {
			return n
		}
		return a.Line - b.Line
	})
	return findings
}

func (ig *Ignore) fault(today time.Time) string {
	if ig.Reason == "" {
		return fmt.Sprintf("the ignore of %s gives no reason: say why", ig.Code)
	}
	if ig.Until == "" {
		return ""
	}
	until, err := time.Parse(time.DateOnly, ig.Until)
	switch {
	case err != nil:
		return fmt.Sprintf("the ignore of %s ends %q, which is no date: want 2026-12-31", ig.Code, ig.Until)
	case !today.Before(until.AddDate(0, 0, 1)):
		return fmt.Sprintf("the ignore of %s has ended on %s: mend what it ignores, or give it more time", ig.Code, ig.Until)
	}
	return ""
}

func (ig *Ignore) covers(f *Finding) bool {
	if ig.Code != "*" && ig.Code != f.Code && !slices.Contains(f.Aliases, ig.Code) {
		return false
	}
	if ig.Object != "" && ig.Object != f.Object.Namespace+"/"+f.Object.Name && ig.Object != f.Object.String() {
		return false
	}
	if ig.File != "" && !strings.HasSuffix(f.File, ig.File) {
		return false
	}
	return ig.Line == 0 || f.Line == ig.Line || f.Line == ig.Line+1
}
