package translate

import (
	"net/netip"
	"path"
	"regexp"
	"sort"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Checks of single values, as Field.Check takes them. Each message says the
// value, the rule and what to write instead.

const (
	maxLabel = 63  // RFC 1123
	maxName  = 253 // RFC 1123
)

var (
	dnsLabel      = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`)
	wildcardLabel = regexp.MustCompile(`^(\*|(\*|\*-)?[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?)$`)
	labelName     = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`)
)

// checkDuration wants a duration of at least a millisecond, in whole
// milliseconds: Envoy counts in those.
func checkDuration(r *Report, v protoreflect.Value) {
	checkDurationFrom(r, v, time.Millisecond)
}

// checkDurationOrZero is checkDuration for a field where 0s switches off.
func checkDurationOrZero(r *Report, v protoreflect.Value) {
	if durationOf(v) != 0 {
		checkDuration(r, v)
	}
}

// checkSeconds is for settings of sockets, which count in whole seconds.
func checkSeconds(r *Report, v protoreflect.Value) {
	switch d := durationOf(v); {
	case d < time.Second:
		r.Errorf("DurationInvalid", "is %s; want whole seconds, at least 1s", d)
	case d%time.Second != 0:
		r.Warnf("DurationInvalid", "is %s, which counts as %s: sockets count in whole seconds", d, d.Truncate(time.Second))
	}
}

func checkDurationFrom(r *Report, v protoreflect.Value, least time.Duration) {
	p, _ := v.Message().Interface().(*durationpb.Duration)
	d := p.AsDuration()
	switch {
	case p.CheckValid() != nil:
		r.Errorf("DurationInvalid", "is not a duration; write it like 10s or 500ms")
	case d < least:
		r.Errorf("DurationInvalid", "is %s; want at least %s", d, least)
	case d%time.Millisecond != 0:
		r.Errorf("DurationInvalid", "is %s; want whole milliseconds", d)
	}
}

func durationOf(v protoreflect.Value) time.Duration {
	p, _ := v.Message().Interface().(*durationpb.Duration)
	return p.AsDuration()
}

// checkNotNegative is for limits, where the API counts from 0.
func checkNotNegative(r *Report, v protoreflect.Value) {
	if n := v.Int(); n < 0 {
		r.Errorf("OutOfRange", "is %d; want 0 (the default) or more", n)
	}
}

// checkPercent is for whole percentages.
func checkPercent(r *Report, v protoreflect.Value) {
	if n := v.Int(); n < 0 || n > 100 {
		r.Errorf("OutOfRange", "is %d; want a percentage from 0 to 100", n)
	}
}

// checkPort is for TCP port numbers.
func checkPort(r *Report, v protoreflect.Value) {
	if n := v.Uint(); n < 1 || n > 65535 {
		r.Errorf("PortInvalid", "is %d; want a port from 1 to 65535", n)
	}
}

// checkEnum refuses numbers that the API does not name, which its JSON form
// lets through.
func checkEnum(r *Report, fd protoreflect.EnumDescriptor, v protoreflect.Value) {
	if fd.Values().ByNumber(v.Enum()) == nil {
		r.Errorf("ValueUnknown", "is %d, which %s does not name", v.Enum(), fd.Name())
	}
}

// hostFault says what is wrong with a host name, or nothing. A wildcard may
// stand for its first label, or for the beginning of it.
func hostFault(host string, wildcard bool) string {
	switch {
	case host == "":
		return "is empty; want a host name"
	case len(host) > maxName+2:
		return "is longer than 255 characters"
	}
	name := strings.TrimSuffix(host, ".")
	labels := strings.Split(name, ".")
	for i, l := range labels {
		pattern := dnsLabel
		if i == 0 && wildcard {
			pattern = wildcardLabel
		}
		if len(l) > maxLabel || !pattern.MatchString(l) {
			return "is " + shown(host) + ": its part " + shown(l) + " is no DNS label (letters, digits and dashes, up to 63)"
		}
	}
	if _, err := strconv.Atoi(labels[len(labels)-1]); err == nil && len(labels) > 1 {
		return "is " + shown(host) + ", whose last part is a number; want a host name, not an address"
	}
	return ""
}

// shown quotes a value for a message, cut if it is long.
func shown(s string) string {
	const most = 80
	if len(s) > most {
		s = s[:most] + "…"
	}
	return strconv.QuoteToGraphic(s)
}

func isAddress(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil
}

// checkLabelValue is for the values of Kubernetes labels; checkLabelKeys is for
// the keys.
func checkLabelValue(r *Report, v protoreflect.Value) {
	if s := v.String(); s != "" && (len(s) > maxLabel || !labelName.MatchString(s)) {
		r.Errorf("LabelInvalid", "is %s; want a label value: letters, digits, '-', '_' and '.', up to 63", shown(s))
	}
}

// checkLabelKeys reports keys that no Kubernetes object can carry; at is the
// map's field name.
func checkLabelKeys(r *Report, at string, labels map[string]string) {
	for _, k := range sortedKeys(labels) {
		if !isLabelKey(k) {
			r.ErrorAt(at, "LabelInvalid", "key %s is no label: want [prefix/]name", shown(k))
		}
	}
}

func isLabelKey(k string) bool {
	prefix, name, qualified := strings.Cut(k, "/")
	if !qualified {
		prefix, name = "", k
	}
	return len(name) <= maxLabel && labelName.MatchString(name) && (!qualified || hostFault(prefix, false) == "")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

// exportRules are what exportTo may hold.
type exportRules struct {
	noOne   bool // ~ is allowed
	ownOnly bool // nothing beyond the object's namespace
}

// checkExportTo reports entries that no namespace can have, duplicates and
// contradictions.
func checkExportTo(r *Report, entries []string, rules exportRules) {
	seen := map[string]bool{}
	for _, e := range entries {
		ns := e
		if e == "." {
			ns = r.Meta().Namespace
		}
		switch {
		case seen[ns]:
			r.WarnAt("exportTo", "Duplicate", "names %s twice", shown(e))
		case e == "*" && len(entries) > 1:
			r.ErrorAt("exportTo", "Conflict", `has "*", which is everyone, and others; leave only one`)
		case e == "~" && !rules.noOne:
			r.ErrorAt("exportTo", "ValueInvalid", `has "~", which only ServiceEntry and Sidecar know`)
		case e == "~" && len(entries) > 1:
			r.ErrorAt("exportTo", "Conflict", `has "~", which is no one, and others; leave only one`)
		case e != "*" && e != "~" && e != "." && (len(e) > maxLabel || !dnsLabel.MatchString(e)):
			r.ErrorAt("exportTo", "ValueInvalid", "has %s; want a namespace, \".\" (its own) or \"*\"", shown(e))
		case rules.ownOnly && ns != r.Meta().Namespace:
			r.ErrorAt("exportTo", "Conflict", "has %s, but a rule with a workloadSelector reaches its own namespace only", shown(e))
		}
		seen[ns] = true
	}
}

// socketFault says what is wrong with the path of a Unix socket, or nothing.
// Names that begin with @ are abstract.
func socketFault(p string) string {
	const most = 107 // what the kernel's address holds
	name := strings.TrimPrefix(p, "@")
	switch {
	case name == "":
		return "names no socket; want unix:///path/to/socket"
	case strings.HasPrefix(p, "@"):
	case !path.IsAbs(p) || strings.HasSuffix(p, "/"):
		return "is the path " + shown(p) + "; want an absolute path to a file"
	}
	if len(p) > most {
		return "is a path of " + strconv.Itoa(len(p)) + " bytes; sockets have at most 107"
	}
	return ""
}

// warnOfTwins names hosts of a list that are there already.
func warnOfTwins(r *Report, hosts []string) {
	seen := map[string]bool{}
	for i, h := range hosts {
		if name := strings.ToLower(h); seen[name] {
			r.WarnAt(indexed("hosts", i), "Duplicate", "is %s, which is there already", shown(h))
		} else {
			seen[name] = true
		}
	}
}
