package judge

import "strings"

// notSeen is why the end of one request does not show a field, or nothing here
// may use it; empty if it does. A message's name stands for its fields.
func notSeen(field string) string {
	if why := notSeenFromOutside[field]; why != "" {
		return why
	}
	message, _, _ := strings.Cut(field, "=")
	for {
		i := strings.LastIndex(message, ".")
		if i < 0 {
			return ""
		}
		message = message[:i]
		if why := notSeenFromOutside[message]; why != "" {
			return why
		}
	}
}

const (
	ofTime         = "how long things take, which e2e/traffic measures"
	ofChoice       = "which of equal endpoints is picked, and when one no longer is, which e2e/traffic counts"
	ofCertificates = "certificates of servers outside, which e2e/certs has"
	ofVersions     = "a Query names no version or cipher; e2e/certs does"
	ofPins         = "hashes of one real certificate, which the test of package simulate and e2e/certs have"
	ofCopies       = "what becomes of copies, which e2e/traffic counts"
	ofAnswers      = "headers of answers, which the routes of TestAgreement and e2e/traffic look at"
	ofGatewayAPI   = "Gateways of another API, which e2e/access has"
	ofFiles        = "files in the pods of gateways, which e2e/certs has"
)

var notSeenFromOutside = map[string]string{
	"ConnectionPoolSettings": ofTime, "OutlierDetection": ofChoice, "LoadBalancerSettings": ofChoice, "LocalityLoadBalancerSetting": ofChoice,
	"ZoneAwareLoadBalancerSetting": ofChoice, "WarmupConfiguration": ofChoice, "TrafficPolicy.RetryBudget": ofChoice, "TrafficPolicy.retry_budget": ofChoice,
	"TrafficPolicy.load_balancer": ofChoice, "TrafficPolicy.outlier_detection": ofChoice, "TrafficPolicy.connection_pool": ofTime,
	"TrafficPolicy.PortTrafficPolicy.load_balancer": ofChoice, "TrafficPolicy.PortTrafficPolicy.outlier_detection": ofChoice, "TrafficPolicy.PortTrafficPolicy.connection_pool": ofTime,
	"TrafficPolicy.TunnelSettings": "proxies outside, which e2e/traffic has", "TrafficPolicy.tunnel": "proxies outside, which e2e/traffic has",
	"TrafficPolicy.ProxyProtocol": "servers that read it, which e2e/traffic has", "TrafficPolicy.proxy_protocol": "servers that read it, which e2e/traffic has",

	"HTTPRoute.timeout": ofTime, "HTTPRoute.retries": ofTime, "HTTPRetry": ofTime, "HTTPFaultInjection.Delay": ofTime, "HTTPFaultInjection.delay": ofTime,
	"HTTPRoute.mirror": ofCopies, "HTTPRoute.mirrors": ofCopies, "HTTPRoute.mirror_percent": ofCopies, "HTTPRoute.mirror_percentage": ofCopies, "HTTPMirrorPolicy": ofCopies,
	"HTTPFaultInjection.Abort.http2_error": "refused, as by Istio",
	"HTTPRoute.name":                       "a name", "HTTPMatchRequest.name": "a name", "HTTPMatchRequest.stat_prefix": "a name", "Server.name": "a name", "Port.name": "a name",
	"Headers.response": ofAnswers, "CorsPolicy.allow_methods": ofAnswers, "CorsPolicy.allow_headers": ofAnswers, "CorsPolicy.expose_headers": ofAnswers,
	"CorsPolicy.max_age": ofAnswers, "CorsPolicy.allow_credentials": ofAnswers, "CorsPolicy.unmatched_preflights=UNSPECIFIED": "the default",

	"AuthorizationPolicy.targetRef": ofGatewayAPI, "AuthorizationPolicy.targetRefs": ofGatewayAPI, "RequestAuthentication.targetRef": ofGatewayAPI,
	"RequestAuthentication.targetRefs": ofGatewayAPI, "PolicyTargetReference": ofGatewayAPI,
	"JWTRule.jwks":     "signatures are taken to be good",
	"JWTRule.jwks_uri": "keys that are fetched, which e2e/access has", "JWTRule.timeout": "keys that are fetched, which e2e/access has",

	"ClientTLSSettings.mode=MUTUAL": ofCertificates, "ClientTLSSettings.client_certificate": ofCertificates, "ClientTLSSettings.private_key": ofCertificates,
	"ClientTLSSettings.ca_certificates": ofCertificates, "ClientTLSSettings.credential_name": ofCertificates, "ClientTLSSettings.ca_crl": ofCertificates,
	"ClientTLSSettings.insecure_skip_verify": ofCertificates, "ClientTLSSettings.sni": ofCertificates,

	"Server.bind":                      "a gateway's pod has one address here",
	"ServerTLSSettings.TLSCertificate": ofFiles, "ServerTLSSettings.tls_certificates": ofFiles, "ServerTLSSettings.server_certificate": ofFiles, "ServerTLSSettings.private_key": ofFiles,
	"ServerTLSSettings.ca_certificates": ofFiles, "ServerTLSSettings.ca_crl": ofFiles,
	"ServerTLSSettings.cipher_suites": ofVersions, "ServerTLSSettings.min_protocol_version": ofVersions, "ServerTLSSettings.max_protocol_version": ofVersions,
	"ServerTLSSettings.ca_cert_credential_name": "Secrets that a folder does not have are taken to be there; the draws have the field, and e2e/certs shows it",
	"ServerTLSSettings.verify_certificate_hash": ofPins, "ServerTLSSettings.verify_certificate_spki": ofPins,
}

const ofFilters = "only an EnvoyFilter makes it"

// neverMade are kinds of Envoy's that the simulator interprets and the control
// plane does not make of what is drawn.
var neverMade = map[string]string{
	"Cluster_ClusterType": "the cluster of a ServiceEntry with resolution DYNAMIC_DNS", "FilterConfig": "the filter beside it",
	"StringMatch_Exact": "Istio's", "StringMatch_Prefix": "Istio's", "StringMatch_Regex": "Istio's",
	"DoubleMatcher_Exact": ofFilters, "DoubleMatcher_Range": ofFilters, "HeaderMatcher_RangeMatch": ofFilters, "JwtRequirement_AllowMissingOrFailed": ofFilters,
	"JwtRequirement_ProviderAndAudiences": ofFilters, "ListenerFilterChainMatchPredicate_AndMatch": ofFilters, "ListenerFilterChainMatchPredicate_AnyMatch": ofFilters,
	"Permission_DestinationPortRange": ofFilters, "Permission_Metadata": ofFilters, "Permission_SourcedMetadata": ofFilters,
	"Principal_FilterState": "Istio's own proxy", "Principal_UrlPath": ofFilters, "RawBuffer": ofFilters, "RedirectAction_RegexRewrite": ofFilters,
	"RouteAction_AutoHostRewrite": "the route to a ServiceEntry by DNS", "RouteAction_ClusterHeader": ofFilters, "RouteAction_HostRewriteHeader": ofFilters, "RouteMatch_ConnectMatcher": ofFilters, "RouteMatch_PathSeparatedPrefix": "Ingress",
	"Principal_SourcedMetadata": ofFilters, "ValueMatcher_PresentMatch": ofFilters,
	"StringMatcher_Contains": ofFilters, "ValueMatcher_BoolMatch": ofFilters, "ValueMatcher_DoubleMatch": ofFilters, "ValueMatcher_NullMatch": ofFilters,
}
