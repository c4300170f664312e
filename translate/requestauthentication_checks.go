package translate

import (
	"net/url"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	security "istio.io/api/security/v1beta1"

	"github.com/pilotfish-mesh/pilotfish/config"
)

func checkRequestAuthentication(r *Report, m proto.Message) {
	p, _ := m.(*security.RequestAuthentication)
	if len(p.GetJwtRules()) == 0 {
		r.WarnAt("jwtRules", "NoEffect", "is empty, so the policy checks nothing")
	}
}

func checkJWTRule(r *Report, m proto.Message) {
	j, _ := m.(*security.JWTRule)
	if j.GetIssuer() == "" {
		r.ErrorAt("issuer", "Missing", "is not set; want the iss claim of the tokens")
	}
	if j.GetJwks() != "" && j.GetJwksUri() != "" {
		r.WarnAt("jwksUri", "NoEffect", "has no effect beside jwks; leave one of them out")
	}
	if j.GetJwks() == "" && j.GetJwksUri() == "" {
		if u, err := url.Parse(j.GetIssuer()); err != nil || u.Scheme != "https" && u.Scheme != "http" || u.Host == "" {
			r.WarnAt("jwksUri", "Missing", "is not set, and the issuer is no URL that could tell where its keys are: all of its tokens are refused. Set jwksUri or jwks")
		}
	}
}

func checkIssuer(r *Report, v protoreflect.Value) {
	if strings.TrimSpace(v.String()) != v.String() {
		r.Warnf("ValueInvalid", "is %s, with space around it; tokens are compared with just that", shown(v.String()))
	}
}

func checkKeysURI(r *Report, v protoreflect.Value) {
	u, err := url.Parse(v.String())
	switch {
	case err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http":
		r.Errorf("URLInvalid", "is %s; want an https URL", shown(v.String()))
	case u.User != nil:
		r.Errorf("URLInvalid", "holds a user name or password; key sets are public")
	case u.Scheme == "http":
		r.Warnf("Insecure", "is %s: whoever is on the way can put other keys there; use https", shown(v.String()))
	}
}

func checkKeys(r *Report, v protoreflect.Value) {
	if _, err := config.ParseKeySet(v.String()); err != nil {
		r.Errorf("KeysInvalid", "%v: all tokens of the issuer are refused", err)
	}
}

func checkTokenHeader(r *Report, v protoreflect.Value) {
	if !headerName.MatchString(v.String()) {
		r.Errorf("HeaderInvalid", "is %s; want the name of a header", shown(v.String()))
	}
}

// requestAuthenticationProblems are selectors without workloads.
func (ix *Index) requestAuthenticationProblems() []config.Problem {
	var out []config.Problem
	for p := range ix.mesh.RequestAuthentications.All() {
		out = append(out, ix.attachmentProblems(&p.Meta, p.Spec)...)
	}
	return out
}
