package live

import (
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/pilotfish-mesh/pilotfish/discovery/file"
)

// writeTexts writes a mesh's texts as files whose order is theirs. What
// validates tokens validates the issuer's.
func writeTexts(dir string, texts []file.Text, i *Issuer) error {
	for n, t := range texts {
		data, err := i.trusted(t.Data)
		if err != nil {
			return fmt.Errorf("%s: %w", t.Name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%06d.yaml", n)), data, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// Issuer signs the tokens and client certificates of test requests, in place of
// those whose keys and authorities the configuration names, with keys that live
// in memory only.
type Issuer struct {
	key       *rsa.PrivateKey
	authority *authority
	stranger  *authority // nobody trusts it
}

// NewIssuer makes the keys.
func NewIssuer() (*Issuer, error) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, err
	}
	out := &Issuer{key: key}
	if out.authority, err = newAuthority("clients of tests"); err == nil {
		out.stranger, err = newAuthority("a stranger")
	}
	return out, err
}

const keyID = "pilotfish-test"

// Keys is the public key as a JSON Web Key Set (RFC 7517).
func (i *Issuer) Keys() string {
	n := base64.RawURLEncoding.EncodeToString(i.key.N.Bytes())
	return `{"keys":[{"kty":"RSA","kid":"` + keyID + `","alg":"RS256","use":"sig","e":"AQAB","n":"` + n + `"}]}`
}

// Token is a JSON Web Token with the claims (RFC 7519). Without exp it is valid
// for long.
func (i *Issuer) Token(claims map[string]any) (string, error) {
	all := maps.Clone(claims)
	if _, said := all["exp"]; !said {
		all["exp"] = 4102444800
	}
	body, err := json.Marshal(all)
	if err != nil {
		return "", err
	}
	enc := base64.RawURLEncoding.EncodeToString
	text := enc([]byte(`{"alg":"RS256","kid":"`+keyID+`","typ":"JWT"}`)) + "." + enc(body)
	sum := sha256.Sum256([]byte(text))
	sig, err := rsa.SignPKCS1v15(rand.Reader, i.key, crypto.SHA256, sum[:])
	return text + "." + enc(sig), err
}

// trusted is a YAML text whose RequestAuthentications have the issuer's keys,
// and whose authorities are the issuer's. Other texts, and such that are no
// YAML, are as they were.
func (i *Issuer) trusted(text []byte) ([]byte, error) {
	if !bytes.Contains(text, []byte("RequestAuthentication")) && !bytes.Contains(text, []byte("ca.crt")) && !bytes.Contains(text, []byte("cacert")) {
		return text, nil
	}
	var out bytes.Buffer
	w := yaml.NewEncoder(&out)
	for d := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var doc any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return text, nil //nolint:nilerr // whoever reads it tells
		}
		i.trust(doc)
		if err := w.Encode(doc); err != nil {
			return nil, err
		}
	}
	err := w.Close()
	return out.Bytes(), err
}

func (i *Issuer) trust(doc any) {
	o, _ := doc.(map[string]any)
	if items, ok := o["items"].([]any); ok {
		for _, item := range items {
			i.trust(item)
		}
	}
	if o["apiVersion"] == "v1" && (o["kind"] == "Secret" || o["kind"] == "ConfigMap") {
		i.vouch(o)
	}
	if kind, _ := o["kind"].(string); kind != "RequestAuthentication" || !strings.HasPrefix(fmt.Sprint(o["apiVersion"]), "security.istio.io/") {
		return
	}
	spec, _ := o["spec"].(map[string]any)
	rules, _ := spec["jwtRules"].([]any)
	for _, r := range rules {
		if rule, ok := r.(map[string]any); ok {
			delete(rule, "jwksUri")
			delete(rule, "jwks_uri")
			rule["jwks"] = i.Keys()
		}
	}
}
