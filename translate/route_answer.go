package translate

import (
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	route "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	networking "istio.io/api/networking/v1alpha3"
)

// prefixToken at the start of a redirect's uri stands for what the match's
// prefix left out of the path.
const prefixToken = "%PREFIX()%"

var redirectCodes = map[uint32]route.RedirectAction_RedirectResponseCode{
	0:   route.RedirectAction_MOVED_PERMANENTLY,
	301: route.RedirectAction_MOVED_PERMANENTLY,
	302: route.RedirectAction_FOUND,
	303: route.RedirectAction_SEE_OTHER,
	307: route.RedirectAction_TEMPORARY_REDIRECT,
	308: route.RedirectAction_PERMANENT_REDIRECT,
}

// redirect answers with another address. port is the one that the request
// came in on, tls whether it came in over TLS.
func redirect(in *networking.HTTPRedirect, port uint32, tls bool) *route.Route_Redirect {
	out := &route.RedirectAction{HostRedirect: in.GetAuthority(), ResponseCode: redirectCodes[in.GetRedirectCode()]}
	rest, isPrefix := strings.CutPrefix(in.GetUri(), prefixToken)
	switch {
	case in.GetPrefixRewrite() != "":
		out.PathRewriteSpecifier = &route.RedirectAction_PrefixRewrite{PrefixRewrite: in.GetPrefixRewrite()}
	case isPrefix:
		out.PathRewriteSpecifier = &route.RedirectAction_PrefixRewrite{PrefixRewrite: rest}
	case in.GetUri() != "":
		out.PathRewriteSpecifier = &route.RedirectAction_PathRedirect{PathRedirect: in.GetUri()}
	}
	if in.GetScheme() != "" {
		out.SchemeRewriteSpecifier = &route.RedirectAction_SchemeRedirect{SchemeRedirect: in.GetScheme()}
	}
	out.PortRedirect = redirectPort(in, port, tls)
	return &route.Route_Redirect{Redirect: out}
}

// redirectPort is the port to name in the new address; 0 names none. A
// scheme's own port is never named.
func redirectPort(in *networking.HTTPRedirect, port uint32, tls bool) uint32 {
	to := in.GetPort()
	if _, derive := in.GetRedirectPort().(*networking.HTTPRedirect_DerivePort); derive {
		if in.GetDerivePort() != networking.HTTPRedirect_FROM_REQUEST_PORT {
			return 0 // the scheme's port
		}
		to = port
	}
	scheme := in.GetScheme()
	if scheme == "" && tls {
		scheme = "https"
	}
	if to == 443 && scheme == "https" || to == 80 && scheme != "https" {
		return 0
	}
	return to
}

// directResponse answers without asking anyone.
func directResponse(in *networking.HTTPDirectResponse) *route.Route_DirectResponse {
	out := &route.DirectResponseAction{Status: in.GetStatus()}
	switch body := in.GetBody().GetSpecifier().(type) {
	case *networking.HTTPBody_String_:
		out.Body = &core.DataSource{Specifier: &core.DataSource_InlineString{InlineString: body.String_}}
	case *networking.HTTPBody_Bytes:
		out.Body = &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: body.Bytes}}
	}
	return &route.Route_DirectResponse{DirectResponse: out}
}

// bodySize is the length of a direct response's body in bytes.
func bodySize(in *networking.HTTPDirectResponse) int {
	return max(len(in.GetBody().GetString_()), len(in.GetBody().GetBytes()))
}
