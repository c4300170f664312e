package translate

import (
	"fmt"
	"path"
	"strings"

	core "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tls "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/pilotfish-mesh/pilotfish/config"
)

// systemRootsFile is where Debian, Ubuntu, Alpine and distroless images keep
// the certificate authorities of the system.
const systemRootsFile = "/etc/ssl/certs/ca-certificates.crt"

// Secret makes the SDS resource of a name, for a reader:
//
//	kubernetes://[ns/]name          a Secret's certificate and key, or a
//	                                registry's credentials for agents
//	kubernetes-gateway://ns/name    the same, of another namespace where a
//	                                ReferenceGrant permits it
//	either with suffix -cacert      the Secret's certificate authority
//	configmap://ns/name-cacert      a ConfigMap's certificate authority
//	file-cert:certificate~key       files on the proxy's side
//	file-root:file, file-root:system
//
// Nil if there is none, it is broken or of another namespace; the problems
// say which, and never print what a Secret holds.
func (t *Translator) Secret(m *config.Mesh, r Reader, name string) (*Resource, []config.Problem) {
	if files := fileSecret(name); files != nil {
		return encodeSecret(files, nil)
	}
	ref, ok := parseSecretName(name, r.Namespace)
	if !ok {
		return nil, nil
	}
	if ref.configMap {
		return t.authority(m, ref, name)
	}
	if ref.namespace != r.Namespace && !granted(m, r, name) {
		return nil, []config.Problem{refused(ref, r, name)}
	}
	if ref.authority {
		return t.authority(m, ref, name)
	}
	s, ok := m.Secrets.Get(ref.namespace, ref.name)
	if !ok {
		return nil, []config.Problem{missingSecret(ref.meta())}
	}
	return t.rememberedSecret(name, s.Hash, &s.Meta, func() (*tls.Secret, *config.Problem) {
		if pull := pullSecretOf(s); pull != nil {
			return &tls.Secret{Name: name, Type: &tls.Secret_GenericSecret{GenericSecret: &tls.GenericSecret{Secret: inlineSource(pull)}}}, nil
		}
		pair, p := keyPairOf(s)
		if p != nil {
			return nil, p
		}
		return &tls.Secret{Name: name, Type: &tls.Secret_TlsCertificate{TlsCertificate: pair}}, nil
	})
}

// secretRef is a parsed SDS name.
type secretRef struct {
	namespace, name string
	authority       bool // name is without the suffix
	configMap       bool
}

func (r secretRef) meta() *config.Meta {
	kind := "Secret"
	if r.configMap {
		kind = "ConfigMap"
	}
	return &config.Meta{Key: config.Key{Kind: kind, Namespace: r.namespace, Name: r.name}}
}

func parseSecretName(name, namespace string) (secretRef, bool) {
	var rest string
	r := secretRef{namespace: namespace}
	for _, scheme := range []string{secretScheme, gatewaySecretScheme, configMapScheme} {
		if after, ok := strings.CutPrefix(name, scheme); ok {
			rest, r.configMap = after, scheme == configMapScheme
			break
		}
	}
	if ns, after, ok := strings.Cut(rest, "/"); ok {
		r.namespace, rest = ns, after
	}
	r.name, r.authority = strings.CutSuffix(rest, authoritySuffix)
	return r, r.name != "" && r.namespace != "" && !strings.Contains(r.name, "/")
}

// NamedSecret is the Secret or ConfigMap that the SDS resource of a name is made
// of, for a proxy of namespace; false if it is made of none. A certificate
// authority may be in the Secret of the suffixed name instead.
func NamedSecret(name, namespace string) (key config.Key, ok bool) {
	r, ok := parseSecretName(name, namespace)
	return r.meta().Key, ok && fileSecret(name) == nil
}

// SecretsOf returns the Secrets that the SDS resource of a name may be made of,
// for a proxy of namespace; not guarded if it is made of none, or if
// ReferenceGrants say who has it (Translator.Secret asks them).
func SecretsOf(name, namespace string) (of string, secrets []string, guarded bool) {
	if fileSecret(name) != nil {
		return "", nil, false
	}
	r, ok := parseSecretName(name, namespace)
	switch {
	case !ok || r.configMap, r.namespace != namespace && strings.HasPrefix(name, gatewaySecretScheme):
		return "", nil, false
	case r.authority:
		return r.namespace, []string{r.name + authoritySuffix, r.name}, true
	}
	return r.namespace, []string{r.name}, true
}

// authority makes a validation context of a Secret or ConfigMap. A Secret of
// the suffixed name goes before the certificate authority in the Secret that
// also holds the key.
func (t *Translator) authority(m *config.Mesh, r secretRef, name string) (*Resource, []config.Problem) {
	var meta *config.Meta
	var data map[string][]byte
	if r.configMap {
		if c, ok := m.ConfigMaps.Get(r.namespace, r.name); ok {
			meta, data = &c.Meta, bytesOf(c.Data)
		}
	} else {
		s, ok := m.Secrets.Get(r.namespace, r.name+authoritySuffix)
		if !ok {
			s, ok = m.Secrets.Get(r.namespace, r.name)
		}
		if ok {
			meta, data = &s.Meta, s.Data
		}
	}
	if meta == nil {
		return nil, []config.Problem{missingSecret(r.meta())}
	}
	return t.rememberedSecret(name, meta.Hash, meta, func() (*tls.Secret, *config.Problem) {
		check, p := trustOf(meta, data)
		if p != nil {
			return nil, p
		}
		return &tls.Secret{Name: name, Type: &tls.Secret_ValidationContext{ValidationContext: check}}, nil
	})
}

func bytesOf(in map[string]string) map[string][]byte {
	out := make(map[string][]byte, len(in))
	for k, v := range in {
		out[k] = []byte(v)
	}
	return out
}

func (t *Translator) rememberedSecret(name string, content config.Hash, meta *config.Meta, make func() (*tls.Secret, *config.Problem)) (*Resource, []config.Problem) {
	key := config.NewHasher().Str("secret", name, meta.Kind, meta.Namespace, meta.Name).Hash(content).Sum()
	if r, ok := t.memo.Get(key); ok {
		return r.resource, r.problems
	}
	var r *Resource
	var problems []config.Problem
	s, p := make()
	if p != nil {
		problems = []config.Problem{*p}
	} else {
		r, problems = encodeSecret(s, meta)
	}
	t.memo.Add(key, remembered{resource: r, problems: problems})
	return r, problems
}

func encodeSecret(s *tls.Secret, meta *config.Meta) (*Resource, []config.Problem) {
	var sources []*config.Meta
	if meta != nil {
		sources = []*config.Meta{meta}
	}
	r, err := NewResource(s.Name, s, Refs{}, sources...)
	if err != nil {
		return nil, []config.Problem{unencodable(s.Name, err, sources)}
	}
	return r, nil
}

// fileSecret points the proxy at files of its own, which it watches; nil if
// the name is of another kind.
func fileSecret(name string) *tls.Secret {
	if files, ok := strings.CutPrefix(name, fileCertScheme); ok {
		cert, key, ok := strings.Cut(files, "~")
		if !ok || cert == "" || key == "" {
			return nil
		}
		return &tls.Secret{Name: name, Type: &tls.Secret_TlsCertificate{TlsCertificate: &tls.TlsCertificate{
			CertificateChain: fileSource(cert), PrivateKey: fileSource(key),
			WatchedDirectory: &core.WatchedDirectory{Path: path.Dir(cert)},
		}}}
	}
	if file, ok := strings.CutPrefix(name, fileRootScheme); ok && file != "" {
		if file == systemRoots {
			file = systemRootsFile
		}
		return &tls.Secret{Name: name, Type: &tls.Secret_ValidationContext{ValidationContext: &tls.CertificateValidationContext{
			TrustedCa: fileSource(file), WatchedDirectory: &core.WatchedDirectory{Path: path.Dir(file)},
		}}}
	}
	return nil
}

func fileSource(name string) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_Filename{Filename: name}}
}

func inlineSource(b []byte) *core.DataSource {
	return &core.DataSource{Specifier: &core.DataSource_InlineBytes{InlineBytes: b}}
}

func secretProblem(m *config.Meta, code, format string, args ...any) config.Problem {
	return config.At(m, "", config.Error, code, "%s", fmt.Sprintf(format, args...))
}

func missingSecret(m *config.Meta) config.Problem {
	return secretProblem(m, "SecretNotFound", "does not exist, but a proxy asks for it: create it or correct the credentialName that names it")
}
