package config

import (
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"istio.io/api/annotation"
	"k8s.io/apimachinery/pkg/api/resource"
)

// annotationChecks test the values that find their way into a pod. Each
// returns what was wanted, or "".
var annotationChecks = map[string]func(string) string{
	annotation.SidecarInterceptionMode.Name:                   oneOf("REDIRECT", "TPROXY", "NONE"),
	annotation.SidecarStatusPort.Name:                         portNumber,
	annotation.SidecarStatusReadinessInitialDelaySeconds.Name: count,
	annotation.SidecarStatusReadinessPeriodSeconds.Name:       count,
	annotation.SidecarStatusReadinessFailureThreshold.Name:    count,
	annotation.SidecarTrafficIncludeOutboundIPRanges.Name:     starOr(prefixes),
	annotation.SidecarTrafficExcludeOutboundIPRanges.Name:     prefixes,
	annotation.SidecarTrafficIncludeInboundPorts.Name:         starOr(ports),
	annotation.SidecarTrafficExcludeInboundPorts.Name:         ports,
	annotation.SidecarTrafficIncludeOutboundPorts.Name:        starOr(ports),
	annotation.SidecarTrafficExcludeOutboundPorts.Name:        ports,
	annotation.SidecarTrafficExcludeInterfaces.Name:           interfaces,
	annotation.SidecarTrafficKubevirtInterfaces.Name:          interfaces,
	annotation.IoIstioRerouteVirtualInterfaces.Name:           interfaces,
	annotation.PrometheusMergeMetrics.Name:                    truth,
	annotation.SidecarRewriteAppHTTPProbers.Name:              truth,
	annotation.ProxyConfig.Name:                               proxyConfig,
	annotation.SidecarProxyCPU.Name:                           quantity,
	annotation.SidecarProxyMemory.Name:                        quantity,
	annotation.SidecarProxyCPULimit.Name:                      quantity,
	annotation.SidecarProxyMemoryLimit.Name:                   quantity,
	annotation.SidecarUserVolume.Name:                         jsonObject,
	annotation.SidecarUserVolumeMount.Name:                    jsonObject,
	annotation.ProxyOverrides.Name:                            jsonObject,
	annotation.SidecarNativeSidecar.Name:                      truth,
	annotation.SidecarLogLevel.Name:                           logLevels(false),
	annotation.SidecarComponentLogLevel.Name:                  logLevels(true),
	annotation.SidecarAgentLogLevel.Name:                      agentLogLevels,
	annotation.SidecarDiscoveryAddress.Name:                   hostPort,
	annotation.SidecarStatsInclusionRegexps.Name:              expressions,
	annotation.SidecarStatsFlushInterval.Name:                 interval,
	annotation.SidecarStatsEvictionInterval.Name:              interval,
	annotation.SidecarStatsHistogramBuckets.Name:              buckets,
}

// AnnotationWant says what an annotation of a pod must be, for a value that
// cannot be meant; empty for one that can, and for annotations of others.
func AnnotationWant(name, value string) string {
	if check := annotationChecks[name]; check != nil {
		return check(value)
	}
	return ""
}

func oneOf(values ...string) func(string) string {
	return func(v string) string {
		if slices.Contains(values, v) {
			return ""
		}
		return strings.Join(values, ", ")
	}
}

func truth(v string) string {
	if _, err := strconv.ParseBool(v); err != nil {
		return "true or false"
	}
	return ""
}

func count(v string) string {
	if _, err := strconv.ParseUint(v, 10, 31); err != nil {
		return "a whole number of 0 or more"
	}
	return ""
}

func portNumber(v string) string {
	if _, err := strconv.ParseUint(strings.TrimSpace(v), 10, 16); err != nil {
		return "a port from 0 (none) to 65535"
	}
	return ""
}

// each applies a check to the elements of a comma-separated list.
func each(v string, check func(string) string) string {
	if strings.TrimSpace(v) == "" {
		return ""
	}
	for _, e := range strings.Split(v, ",") {
		if want := check(strings.TrimSpace(e)); want != "" {
			return want
		}
	}
	return ""
}

func starOr(check func(string) string) func(string) string {
	return func(v string) string {
		if v == "*" {
			return ""
		}
		if want := check(v); want != "" {
			return `"*", or ` + want
		}
		return ""
	}
}

func ports(v string) string {
	if each(v, portNumber) != "" {
		return "ports, separated by commas"
	}
	return ""
}

func prefixes(v string) string {
	return each(v, func(e string) string {
		if _, err := netip.ParsePrefix(e); err != nil {
			return "IP ranges such as 10.0.0.0/8, separated by commas"
		}
		return ""
	})
}

// interfaces: the kernel's rule for names (dev_valid_name).
func interfaces(v string) string {
	return each(v, func(e string) string {
		if e == "" || len(e) > 15 || e == "." || e == ".." || strings.ContainsFunc(e, func(r rune) bool {
			return r == '/' || r == ':' || unicode.IsSpace(r) || unicode.IsControl(r)
		}) {
			return "names of network interfaces, separated by commas"
		}
		return ""
	})
}

func quantity(v string) string {
	if _, err := resource.ParseQuantity(v); err != nil {
		return "a quantity such as 100m or 128Mi"
	}
	return ""
}

func jsonObject(v string) string {
	var o map[string]json.RawMessage
	if err := json.Unmarshal([]byte(v), &o); err != nil {
		return "a JSON object: " + err.Error()
	}
	return ""
}

// logLevels: Envoy does not start with another one. A level may be for one
// component; with only, each must be.
func logLevels(only bool) func(string) string {
	return func(v string) string {
		return each(v, func(e string) string {
			component, level, named := strings.Cut(e, ":")
			if !named {
				component, level = "-", e
			}
			if !slices.Contains(envoyLevels, level) || component == "" || (only && !named) {
				form := "a level"
				if only {
					form = "a component and a level, such as filter:debug"
				}
				return form + "; levels are " + strings.Join(envoyLevels, ", ")
			}
			return ""
		})
	}
}

var envoyLevels = []string{"trace", "debug", "info", "warning", "warn", "error", "critical", "off"}

func agentLogLevels(v string) string {
	return each(v, func(e string) string {
		if _, level, ok := strings.Cut(e, ":"); ok {
			e = level
		}
		return oneOf("debug", "info", "warn", "error", "fatal", "none")(e)
	})
}

func hostPort(v string) string {
	if host, port, err := net.SplitHostPort(v); err != nil || host == "" || port == "0" || portNumber(port) != "" {
		return "a host and a port such as istiod.istio-system.svc:15012"
	}
	return ""
}

func expressions(v string) string {
	return each(v, func(e string) string {
		if _, err := regexp.Compile(e); err != nil {
			return "regular expressions, separated by commas: " + err.Error()
		}
		return ""
	})
}

func interval(v string) string {
	if d, err := time.ParseDuration(v); err != nil || d < time.Millisecond {
		return "a duration of 1ms or more, such as 5s"
	}
	return ""
}

func buckets(v string) string {
	var all map[string][]float64
	if err := json.Unmarshal([]byte(v), &all); err != nil {
		return "a JSON object of lists of numbers: " + err.Error()
	}
	for _, prefix := range slices.Sorted(maps.Keys(all)) {
		last := 0.0
		for _, bound := range all[prefix] {
			if bound <= last {
				return fmt.Sprintf("for %q numbers over 0, each larger than the one before", prefix)
			}
			last = bound
		}
		if last == 0 {
			return fmt.Sprintf("for %q at least one number", prefix)
		}
	}
	return ""
}

func proxyConfig(v string) string {
	if _, _, err := OverlayProxyConfig(DefaultMeshConfig().GetDefaultConfig(), v); err != nil {
		return "the YAML of a ProxyConfig: " + err.Error()
	}
	return ""
}
