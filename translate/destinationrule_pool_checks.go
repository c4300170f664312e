package translate

import (
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	networking "istio.io/api/networking/v1alpha3"
)

func checkConnectionPool(r *Report, m proto.Message) {
	p := m.(*networking.ConnectionPoolSettings)
	if p.GetTcp() == nil && p.GetHttp() == nil {
		r.Errorf("Required", "says nothing; want tcp, http or both")
	}
}

func checkHTTPPool(r *Report, m proto.Message) {
	h := m.(*networking.ConnectionPoolSettings_HTTPSettings)
	if h.GetUseClientProtocol() && h.GetH2UpgradePolicy() == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE {
		r.Errorf("Conflict", "has both useClientProtocol and h2UpgradePolicy UPGRADE; the protocol is either the client's or HTTP/2")
	}
}

func checkPings(r *Report, m proto.Message) {
	k := m.(*networking.ConnectionPoolSettings_HTTPSettings_ConnectionKeepalive)
	if k.GetInterval() == nil {
		r.ErrorAt("interval", "Required", "is missing; want the time between pings, such as 30s")
	}
	if k.GetTimeout() == nil {
		r.ErrorAt("timeout", "Required", "is missing; want the time to answer, such as 5s")
	}
}

func checkOutlierDetection(r *Report, m proto.Message) {
	o := m.(*networking.OutlierDetection)
	if o.GetConsecutiveLocalOriginFailures().GetValue() > 0 && !o.GetSplitExternalLocalOriginErrors() {
		r.ErrorAt("consecutiveLocalOriginFailures", "Conflict", "counts only with splitExternalLocalOriginErrors: true")
	}
}

func checkConsecutiveErrors(r *Report, _ protoreflect.Value) {
	r.Warnf("Deprecated", "has no effect; want consecutive5xxErrors or consecutiveGatewayErrors")
}

func checkStatusCode(r *Report, v protoreflect.Value) {
	if n := v.Uint(); n < 100 || n > 599 {
		r.Errorf("OutOfRange", "is %d; want an HTTP status from 100 to 599", n)
	}
}

func checkTLSMode(r *Report, v protoreflect.Value) {
	checkEnum(r, networking.ClientTLSSettings_DISABLE.Descriptor(), v)
}

func checkClientTLS(r *Report, m proto.Message) {
	t := m.(*networking.ClientTLSSettings)
	for _, n := range t.GetSubjectAltNames() {
		if n == "" {
			r.WarnAt("subjectAltNames", "Required", "has an empty name, which no certificate has")
		}
	}
	switch t.GetMode() {
	case networking.ClientTLSSettings_SIMPLE, networking.ClientTLSSettings_MUTUAL:
		checkCredential(r, t)
		checkVerification(r, t)
	case networking.ClientTLSSettings_ISTIO_MUTUAL:
		files := filesOf(t)
		for _, field := range sortedKeys(files) {
			if files[field] {
				r.WarnAt(field, "NoEffect", "is set, but ISTIO_MUTUAL uses the workload's own certificate; leave it out or use MUTUAL")
			}
		}
	}
}

func filesOf(t *networking.ClientTLSSettings) map[string]bool {
	return map[string]bool{
		"clientCertificate": t.GetClientCertificate() != "",
		"privateKey":        t.GetPrivateKey() != "",
		"caCertificates":    t.GetCaCertificates() != "",
	}
}

func checkCredential(r *Report, t *networking.ClientTLSSettings) {
	if t.GetCredentialName() == "" {
		if t.GetMode() == networking.ClientTLSSettings_MUTUAL {
			if t.GetClientCertificate() == "" {
				r.ErrorAt("clientCertificate", "Required", "is missing; MUTUAL needs a certificate and its key, or a credentialName")
			}
			if t.GetPrivateKey() == "" {
				r.ErrorAt("privateKey", "Required", "is missing; MUTUAL needs a certificate and its key, or a credentialName")
			}
		}
		return
	}
	files := filesOf(t)
	files["caCrl"] = t.GetCaCrl() != ""
	for _, field := range sortedKeys(files) {
		if files[field] {
			r.ErrorAt(field, "Conflict", "is set beside credentialName, which brings its own; want one of them")
		}
	}
	if rest, ok := strings.CutPrefix(t.GetCredentialName(), configMapScheme); ok {
		if ns, name, ok := strings.Cut(rest, "/"); !ok || name == "" || ns != r.Meta().Namespace {
			r.ErrorAt("credentialName", "ValueInvalid", "is %s; want configmap://%s/name, in the rule's own namespace", shown(t.GetCredentialName()), r.Meta().Namespace)
		}
	}
}

func checkVerification(r *Report, t *networking.ClientTLSSettings) {
	if !t.GetInsecureSkipVerify().GetValue() {
		return
	}
	byCredential := t.GetCredentialName() != "" && t.GetMode() == networking.ClientTLSSettings_SIMPLE
	if t.GetCaCertificates() != "" || len(t.GetSubjectAltNames()) > 0 || byCredential {
		r.ErrorAt("insecureSkipVerify", "Conflict", "is true beside caCertificates, subjectAltNames or credentialName, which say what to verify")
	}
}
