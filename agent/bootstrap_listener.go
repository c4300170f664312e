package agent

import (
	"net/netip"
	"strconv"
)

func (a Address) json() object {
	if a.Path != "" {
		return object{"pipe": object{"path": a.Path}}
	}
	return object{"socketAddress": object{"address": a.Host, "portValue": a.Port}}
}

func (a Address) discovery() string {
	if _, err := netip.ParseAddr(a.Host); a.Path == "" && err != nil {
		return dnsCluster
	}
	return "STATIC"
}

// pathRoute sends one path to a cluster, as rewritten unless empty.
func pathRoute(path, to, rewrite string) object {
	action := object{"cluster": to}
	if rewrite != "" {
		action["prefixRewrite"] = rewrite
	}
	return object{"match": object{"path": path}, "route": action}
}

func (b *Bootstrap) staticListeners() list {
	ready := pathRoute("/healthz/ready", adminCluster, "/ready")
	if b.Agent.Host != "" {
		ready = pathRoute("/healthz/ready", agentCluster, "")
	}
	var filters list
	if b.CompressStats {
		filters = list{compressor()}
	}
	return list{
		httpListener(b.StaticHost, StatsPort, "stats", pathRoute("/stats/prometheus", adminCluster, ""), filters...),
		httpListener(b.StaticHost, HealthPort, "agent", ready),
	}
}

// httpListener serves one route on a static port, through filters. Every other
// path is 404.
func httpListener(host string, port uint32, stat string, route object, filters ...any) object {
	if host == "" {
		host = "0.0.0.0"
	}
	at := Address{Host: host, Port: port}.json()
	if host == "::" {
		at["socketAddress"].(object)["ipv4Compat"] = true
	}
	manager := typed("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", object{
		"statPrefix": stat,
		"routeConfig": object{"virtualHosts": list{
			object{"name": "backend", "domains": list{"*"}, "routes": list{route}},
		}},
		"httpFilters": append(filters, object{
			"name": "envoy.filters.http.router", "typedConfig": typed("envoy.extensions.filters.http.router.v3.Router", nil),
		}),
	})
	return object{
		"name":    host + "_" + strconv.FormatUint(uint64(port), 10),
		"address": at,
		"filterChains": list{object{"filters": list{
			object{"name": "envoy.filters.network.http_connection_manager", "typedConfig": manager},
		}}},
		"ignoreGlobalConnLimit": true,
		"bypassOverloadManager": true,
	}
}

// statsConfig has the tags by which Istio's dashboards read Envoy's own
// statistics. The first group of an expression is cut from the statistic's
// name, the second is the tag's value. A name that contains dots ends with ";".
func (b *Bootstrap) statsConfig() object {
	tags := list{}
	for _, t := range []struct{ name, regex string }{
		{"cluster_name", `^cluster\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"http_conn_manager_prefix", `^http\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"listener_address", `^listener\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"tcp_prefix", `^tcp\.((.+(?=;\.)|[^.;]+);?\.)`},
		{"response_code", `_rq(_(\d{3}))$`},
		{"response_code_class", `_rq(_(\dxx))$`},
		// AuthorizationPolicies, as Istio's proxies count them.
		{"authz_enforce_result", `rbac(\.(allowed|denied))$`},
		{"authz_dry_run_action", `rbac(\.istio_dry_run_(allow|deny)_)`},
		{"authz_dry_run_result", `istio_dry_run_[a-z]+_(\.shadow_(allowed|denied))$`},
	} {
		tags = append(tags, object{"tagName": t.name, "regex": t.regex})
	}
	out := object{"useAllDefaultTags": false, "statsTags": tags}
	buckets := list{}
	for _, h := range b.Buckets {
		buckets = append(buckets, object{"match": object{"prefix": h.Prefix}, "buckets": h.Bounds})
	}
	if len(buckets) > 0 {
		out["histogramBucketSettings"] = buckets
	}
	keep := b.Stats
	if keep == nil {
		return out
	}
	patterns := list{}
	for _, v := range keep.Prefixes {
		patterns = append(patterns, object{"prefix": v})
	}
	for _, v := range keep.Suffixes {
		patterns = append(patterns, object{"suffix": v})
	}
	for _, v := range keep.Regexes {
		patterns = append(patterns, object{"safeRegex": object{"regex": v}})
	}
	out["statsMatcher"] = object{"inclusionList": object{"patterns": patterns}}
	return out
}
