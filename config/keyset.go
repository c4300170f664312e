package config

import (
	"crypto/ecdh"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
)

// KeySets are JSON Web Key Sets by where they were fetched (KeySetURI).
// Immutable.
type KeySets struct {
	ByURI map[string]KeySet
}

// KeySet is one issuer's keys.
type KeySet struct {
	JSON string // RFC 7517, section 5
	Hash Hash
}

// Get returns the keys that were fetched from a place; ok is false if there
// are none.
func (k *KeySets) Get(uri string) (set KeySet, ok bool) {
	if k == nil {
		return KeySet{}, false
	}
	set, ok = k.ByURI[uri]
	return set, ok
}

// issuerMetadata marks the place of an issuer's metadata, which names that of
// its keys.
const issuerMetadata = "/.well-known/openid-configuration"

// KeySetURI is where a JWT rule's keys are: at jwksUri or, without one, where
// the issuer's metadata says (OpenID Connect Discovery 1.0, section 4). The
// result is then the metadata's own place.
func KeySetURI(issuer, jwksURI string) (uri string, metadata bool) {
	if jwksURI != "" {
		return jwksURI, false
	}
	for len(issuer) > 0 && issuer[len(issuer)-1] == '/' {
		issuer = issuer[:len(issuer)-1]
	}
	return issuer + issuerMetadata, true
}

// publicKey holds what a public key of a JSON Web Key Set needs (RFC 7518,
// section 6; RFC 8037, section 2). Whatever else is there, private parts among
// it, is left out.
type publicKey struct {
	Type  string `json:"kty"`
	ID    string `json:"kid,omitempty"`
	Use   string `json:"use,omitempty"`
	Alg   string `json:"alg,omitempty"`
	N     string `json:"n,omitempty"`
	E     string `json:"e,omitempty"`
	Curve string `json:"crv,omitempty"`
	X     string `json:"x,omitempty"`
	Y     string `json:"y,omitempty"`
}

// ParseKeySet reads a JSON Web Key Set (RFC 7517, section 5) and returns it
// with its usable keys only: public ones of a kind that proxies know. No such
// key is an error, since proxies would refuse all of their configuration.
func ParseKeySet(text string) (set string, err error) {
	var given struct {
		Keys []publicKey `json:"keys"`
	}
	if err := json.Unmarshal([]byte(text), &given); err != nil {
		return "", errors.New("is no JSON Web Key Set")
	}
	var out struct {
		Keys []publicKey `json:"keys"`
	}
	for i := range given.Keys {
		if given.Keys[i].usable() {
			out.Keys = append(out.Keys, given.Keys[i])
		}
	}
	if len(out.Keys) == 0 {
		return "", fmt.Errorf("is a JSON Web Key Set of %d keys, none of which is a public key of kind RSA, EC or OKP (Ed25519)", len(given.Keys))
	}
	b, err := json.Marshal(out)
	return string(b), err
}

func (k *publicKey) usable() bool {
	switch k.Type {
	case "RSA":
		n, okN := number(k.N)
		e, okE := number(k.E)
		return okN && okE && n.BitLen() >= 1024 && e.BitLen() >= 2 && e.BitLen() <= 32 && k.algorithm("RS", "PS")
	case "EC":
		var curve ecdh.Curve
		switch k.Curve {
		case "P-256":
			curve = ecdh.P256()
		case "P-384":
			curve = ecdh.P384()
		case "P-521":
			curve = ecdh.P521()
		default:
			return false
		}
		return onCurve(curve, k.X, k.Y) && k.algorithm("ES")
	case "OKP":
		x, err := base64.RawURLEncoding.DecodeString(k.X)
		return k.Curve == "Ed25519" && err == nil && len(x) == 32 && k.algorithm("EdDSA")
	}
	return false
}

func (k *publicKey) algorithm(prefixes ...string) bool {
	if k.Alg == "" {
		return true
	}
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(k.Alg, p) })
}

func number(s string) (*big.Int, bool) {
	b, err := base64.RawURLEncoding.DecodeString(s)
	return new(big.Int).SetBytes(b), err == nil && len(b) > 0
}

func onCurve(c ecdh.Curve, x, y string) bool {
	size := map[ecdh.Curve]int{ecdh.P256(): 32, ecdh.P384(): 48, ecdh.P521(): 66}[c]
	point := make([]byte, 1+2*size)
	point[0] = 4 // uncompressed
	for i, s := range []string{x, y} {
		n, ok := number(s)
		if !ok || n.BitLen() > 8*size {
			return false
		}
		n.FillBytes(point[1+i*size : 1+(i+1)*size])
	}
	_, err := c.NewPublicKey(point)
	return err == nil
}
