package meshtest

import (
	"slices"
	"strings"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// alias gives a finding the codes of istioctl analyze (IST) and of Kiali's
// validations (KIA) for the same. Empty conditions are met by all.
type alias struct {
	code  string
	kinds string // of the object, with spaces between
	field string // is part of the finding's
	codes []string
}

// aliases are looked through in order; the first that fits counts.
var aliases = []alias{
	{"HostNotFound", "DestinationRule", "", []string{"IST0174", "KIA0202"}},
	{"HostNotFound", "Sidecar", "", []string{"IST0101", "KIA1004"}},
	{"HostNotFound", "", "", []string{"IST0101", "KIA1101"}},
	{"HostNotVisible", "Sidecar", "", []string{"IST0101", "KIA1004"}},
	{"HostNotVisible", "", "", []string{"IST0101"}},
	{"SubsetNotFound", "", "", []string{"IST0101", "KIA1107"}},
	{"SubsetEmpty", "", "", []string{"IST0173", "KIA0203"}},
	{"GatewayNotFound", "", "", []string{"IST0101", "KIA1102"}},
	{"WorkloadNotFound", "Gateway", "", []string{"IST0101", "KIA0302"}},
	{"WorkloadNotFound", "Sidecar", "", []string{"IST0101", "KIA0004"}},
	{"WorkloadNotFound", "AuthorizationPolicy", "", []string{"IST0127", "KIA0004"}},
	{"WorkloadNotFound", "Telemetry", "", []string{"IST0101", "KIA0004"}},
	{"WorkloadNotFound", "", "", []string{"KIA0004"}},
	{"PortNotFound", "", "", []string{"IST0101"}},
	{"PortRequired", "", "", []string{"IST0112"}},
	{"DelegateNotFound", "", "", []string{"IST0101"}},
	{"ProviderNotFound", "", "", []string{"IST0101"}},
	{"SecretNotFound", "", "", []string{"IST0101"}},
	{"CredentialUnusable", "", "", []string{"IST0101", "IST0161"}},
	{"HostClaimed", "", "", []string{"IST0109", "KIA1106"}},
	{"SubsetTaken", "", "", []string{"KIA0201"}},
	{"PolicyIgnored", "", "", []string{"KIA0201"}},
	{"SidecarShadowed", "", "", []string{"IST0111", "KIA0002"}},
	{"SidecarOverlaps", "", "", []string{"IST0110", "KIA0003"}},
	{"PolicyShadowed", "Telemetry", "", []string{"IST0160", "KIA0002"}},
	{"PolicyShadowed", "", "", []string{"KIA0002"}},
	{"PolicyOverlaps", "Telemetry", "", []string{"IST0159", "KIA0003"}},
	{"PolicyOverlaps", "", "", []string{"KIA0003"}},
	{"RouteShadowed", "", ".match[", []string{"IST0131"}},
	{"RouteShadowed", "", "", []string{"IST0130"}},
	{"HostNotInGateway", "", "", []string{"IST0132"}},
	{"PortConflict", "Gateway", "", []string{"IST0145", "KIA0301"}},
	{"HostTaken", "Gateway", "", []string{"IST0145", "KIA0301"}},
	{"PortTaken", "ServiceEntry", "", []string{"IST0177", "KIA1212"}},
	{"AddressMissing", "ServiceEntry", "", []string{"IST0134"}},
	{"MutualTLSConflict", "", "", []string{"KIA0207", "KIA0208"}},
	{"MutualTLSOff", "", "", []string{"KIA0505", "KIA0506"}},
	{"PortWithoutProtocol", "", "", []string{"IST0118", "KIA0601"}},
	{"InboundProtocolConflict", "", "", []string{"IST0116"}},
	{"ServerNotVerified", "", "portLevelSettings", []string{"IST0129"}},
	{"ServerNotVerified", "", "", []string{"IST0128"}},
	{"AnnotationUnknown", "", "", []string{"IST0108"}},
	{"AnnotationMisplaced", "", "", []string{"IST0107"}},
	{"AnnotationInvalid", "", "", []string{"IST0125"}},
	{"AnnotationDeprecated", "", "", []string{"IST0135"}},
	{"InjectionContrary", "", "", []string{"IST0123"}},
	{"CertificateShared", "", "", []string{"IST0138"}},
	{"PortNotExposed", "", "", []string{"IST0162"}},
	{"ClaimsWithoutToken", "", "", []string{"IST0149"}},
	{"NamespaceNotFound", "AuthorizationPolicy", "", []string{"IST0101", "KIA0101"}},
	{"AccountNotFound", "AuthorizationPolicy", "", []string{"KIA0106"}},
	{"MethodUnknown", "AuthorizationPolicy", "", []string{"KIA0102"}},
	{"Deprecated", "", "gateways", []string{"IST0002", "KIA1108"}},
	{"Deprecated", "", "", []string{"IST0002"}},
	{"ImageNotInjected", "", "", []string{"IST0146", "IST0147"}},
	{"ProxyUser", "", "", []string{"IST0144"}},
	{"UnknownKind", "", "", []string{"IST0106"}},
	{"UnknownField", "", "", []string{"IST0106"}},
}

// operationCodes are those of a patch whose operation its applyTo does not
// take.
var operationCodes = map[string]string{"REPLACE": "IST0152", "ADD": "IST0153", "REMOVE": "IST0154"}

// aliasesOf are the codes of other tools for a problem. What one object alone
// has wrong, so that it is not in effect, is IST0106 throughout.
func aliasesOf(p *config.Problem) []string {
	for i := range aliases {
		a := &aliases[i]
		if a.code == p.Code && (a.kinds == "" || slices.Contains(strings.Fields(a.kinds), p.Object.Kind)) && strings.Contains(p.Field, a.field) {
			return a.codes
		}
	}
	if p.Object.Kind == "EnvoyFilter" && strings.HasSuffix(p.Field, ".patch.operation") {
		for op, code := range operationCodes {
			if strings.HasPrefix(p.Message, "is "+op+",") {
				return []string{code}
			}
		}
	}
	switch {
	case !strings.HasSuffix(p.Object.Group, ".istio.io") || p.File == "":
		return nil
	case p.Severity == config.Error && invalid[p.Code]:
		return []string{"IST0106"}
	case p.Severity == config.Warning && p.Code == "NoEffect":
		return []string{"IST0133"}
	}
	return nil
}

// invalid are the codes of values that the API does not take.
var invalid = map[string]bool{
	"AddressInvalid":    true,
	"AddressMissing":    true,
	"Conflict":          true,
	"DelegateInvalid":   true,
	"Duplicate":         true,
	"DurationInvalid":   true,
	"ExpressionInvalid": true,
	"FormatInvalid":     true,
	"GatewayInvalid":    true,
	"HashInvalid":       true,
	"HeaderInvalid":     true,
	"HostDuplicate":     true,
	"HostInvalid":       true,
	"InvalidName":       true,
	"InvalidValue":      true,
	"LabelInvalid":      true,
	"LocalityInvalid":   true,
	"Missing":           true,
	"NameInvalid":       true,
	"OutOfRange":        true,
	"PathInvalid":       true,
	"PortInvalid":       true,
	"ProtocolInvalid":   true,
	"ProtocolUnknown":   true,
	"ProviderInvalid":   true,
	"RegexInvalid":      true,
	"Required":          true,
	"RouteInvalid":      true,
	"RouteRequired":     true,
	"SelectorEmpty":     true,
	"TooMany":           true,
	"UnexpectedType":    true,
	"URLInvalid":        true,
	"ValueInvalid":      true,
	"ValueUnknown":      true,
	"WeightInvalid":     true,
}

// OtherCodes are all codes of istioctl analyze and Kiali that findings can have.
func OtherCodes() []string {
	out := []string{"IST0106", "IST0133"}
	for i := range aliases {
		out = append(out, aliases[i].codes...)
	}
	for _, c := range operationCodes {
		out = append(out, c)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
