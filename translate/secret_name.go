package translate

import (
	"sort"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// Schemes of SDS names.
const (
	secretScheme        = "kubernetes://"
	gatewaySecretScheme = "kubernetes-gateway://"
	configMapScheme     = "configmap://"
	fileCertScheme      = "file-cert:"
	fileRootScheme      = "file-root:"
	// authoritySuffix names the certificate authority that goes with a
	// credential.
	authoritySuffix = "-cacert"
	// systemRoots stands for the certificate authorities of the proxy's own
	// system.
	systemRoots = "system"
)

// credentialSecret is the SDS name of a credentialName: a Secret's name, or a
// name that says itself where it is from.
func credentialSecret(name string) string {
	for _, scheme := range []string{secretScheme, gatewaySecretScheme, configMapScheme} {
		if strings.HasPrefix(name, scheme) {
			return name
		}
	}
	return secretScheme + name
}

// authoritySecret is the SDS name of an authority by itself. Of a Secret it is
// asked for by a name with the suffix, which the user need not write.
func authoritySecret(name string) string {
	sds := credentialSecret(name)
	if strings.HasPrefix(sds, configMapScheme) || strings.HasSuffix(sds, authoritySuffix) {
		return sds
	}
	return sds + authoritySuffix
}

// credentialSecrets are the SDS names of a client's certificate and of the
// authority that it trusts.
func credentialSecrets(t *networking.ClientTLSSettings) (own, authority string) {
	if n := t.GetCredentialName(); n != "" {
		return credentialSecret(n), credentialSecret(n) + authoritySuffix
	}
	authority = t.GetCaCertificates()
	if authority == "" {
		authority = systemRoots
	}
	return fileCertScheme + t.GetClientCertificate() + "~" + t.GetPrivateKey(), fileRootScheme + authority
}

func appendSorted(list []string, s string) []string {
	i := sort.SearchStrings(list, s)
	if i < len(list) && list[i] == s {
		return list
	}
	list = append(list, "")
	copy(list[i+1:], list[i:])
	list[i] = s
	return list
}
